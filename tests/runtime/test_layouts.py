"""Every layout in the tables of docs/data.md: what is read, said or refused, by one reader."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.cli.inputs import read_images
from vae_runtime.datasets import ReadOptions, load_held_out, load_splits
from vae_runtime.errors import InputError, NotFound, VaeError

from . import layouts as made
from .layouts import BYTES, DISCS, LABELS, Make, folders, npz

pytestmark = pytest.mark.torch_free

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
SMALL = (1, 10, 10)


@dataclass(frozen=True)
class Read:
    """What is read: the images of both splits, the classes, and a part of what is said."""

    n: int
    classes: str = ""
    test: int | None = None
    said: str = ""
    shape: tuple[int, int, int] = SMALL
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Refused:
    """What is refused, and the advice."""

    error: type[VaeError]
    advice: str
    size: tuple[int, int] | None = None


F = BYTES.astype(np.float32)
ROWS = np.random.default_rng(1).random((12, 30), np.float32)
FOUR = np.repeat(BYTES[..., None], 4, -1)
CASES: dict[str, tuple[Make, Read | Refused]] = {
    # Folders of images
    "`cat/1.png`, `dog/1.png`": (folders(dog=2, cat=3), Read(5, "cat dog")),
    "`1/`, `2/`, … `12/`": (
        folders(**{str(k): 1 for k in range(1, 13)}), Read(12, "1 2 3 4 5 6 7 8 9 10 11 12")
    ),
    "`dog/batch1/1.png`": (folders(cat=2, dog__batch1=3, dog__batch2=1), Read(6, "cat dog")),
    "`1.png`, `2.png`": (lambda root: made.fill(root, 3), Read(3)),
    "`1.png` beside `cat/`": (
        made.beside,
        Read(5, said="no labels, as images lie beside cat/ (2 of 5)"),
    ),
    "`train/cat/`, `test/cat/`": (
        folders(train__cat=3, train__dog=2, test__dog=1),
        Read(5, "cat dog", 1, said="5 images of train/|1 image of test/"),
    ),
    "`Training/`, `val_set/`": (
        folders(Training__a=4, val_set__a=2), Read(4, "a", 2, said="2 images of val_set/")
    ),
    "`seg_train/`, `seg_test/`": (
        folders(seg_train__seg_train__sea=4, seg_test__seg_test__sea=2, seg_pred=3),
        Read(4, "sea", 2, said="left out: 3 in seg_pred/"),
    ),
    "`train/`, `val/`, `test/`": (
        folders(train=5, val=3, test=2), Read(5, "", 2, said="left out: 3 in val/")
    ),
    "`bus/`, `car/`, `train/`": (folders(bus=2, car=1, train=3), Read(6, "bus car train")),
    "MVTec: `train/good`, `test/good`, `test/broken`, `ground_truth/`": (
        made.mvtec,
        Read(6, "good", 3, "1 not images (.txt), 2 in ground_truth/|4 are not used", (3, 10, 10)),
    ),
    "`images/`, `masks/`": (
        folders(images__a=2, images__b=2, masks=4), Read(4, "a b", said="left out: 4 in masks/")
    ),
    "unpacked archive: `PetImages/Cat/`": (
        made.archive,
        Read(6, "Cat Dog", said="left out: 4 hidden, 4 in thumbnails/, 1 not images (.txt)"),
    ),
    "several data sets: `bottle/train`, `cable/train`": (
        folders(bottle__train__good=1, cable__train__good=1, bottle__test__good=1),
        Refused(InputError, r"bottle/ has splits of its own, as has cable/\. Use .*bottle, or"),
    ),
    "several data sets: `trainA/`, `testA/`, `trainB/`, `testB/`": (
        folders(trainA=1, trainB=1, testA=1, testB=1),
        Refused(InputError, "several data sets.*Give each its own folder"),
    ),
    "symbolic links, Unicode names": (made.linked, Read(4, "köln 東京")),
    "every extension": (made.extensions, Read(9, "mixed", shape=(3, 10, 10))),
    "damaged files": (
        made.damaged,
        Refused(InputError, r"12 of 14 images cannot be read\. .* 0\.png, 1\.png, 10\.png, "
                r"11\.png, 2\.png, .*7\.png and 2 more\. The first is: truncated"),
    ),
    "different sizes": (
        made.sizes, Refused(InputError, r"9\.png: 8x10 .*10x10 like 0\.png, as 3 of 4 .*--size")
    ),
    "different sizes, with `--size`": (made.sizes, Read(4, shape=(1, 6, 5), size=(6, 5))),
    "photographs of 24 megapixels, with `--size`": (
        made.photographs, Read(2, shape=(3, 16, 16), size=(16, 16))
    ),
    "grey among colour": (
        made.grey_and_colour,
        Read(3, "a b", shape=(3, 10, 10)),
    ),
    "black ink on transparency": (
        made.icons, Read(4, said="transparent parts are placed over white", shape=(3, 10, 10))
    ),
    "masks of 0 and 1": (made.masks, Read(4, said="0 and 1 are read as black and white")),
    "16 bits per pixel": (made.two_depths, Read(4)),
    "no images": (made.pickles, Refused(NotFound, "no images .*data_batch_0.*may run code")),
    # Arrays
    "`.npz`: `images`, `labels`, `classes`, `test_images`, `test_labels`": (
        npz(images=BYTES, labels=LABELS, classes=["x", "y", "z"], test_images=BYTES[:3],
            test_labels=LABELS[:3]),
        Read(12, "x y z", 3, "12 images of images|3 images of test_images"),
    ),
    "Keras: `x_train`, `y_train`, `x_test`, `y_test`": (
        npz(x_train=BYTES, y_train=LABELS, x_test=BYTES[:4], y_test=LABELS[:4]),
        Read(12, "0 1 2", 4, "12 images of x_train|4 images of x_test"),
    ),
    "MedMNIST: `train_images`, `train_labels`, `val_images`, …": (
        npz(train_images=BYTES, train_labels=LABELS[:, None].astype(np.uint8),
            val_images=BYTES[:2], val_labels=LABELS[:2, None],
            test_images=BYTES[:4], test_labels=LABELS[:4, None]),
        Read(12, "0 1 2", 4, "left out: 2 in val_images"),
    ),
    "Hugging Face: `image`, `label`": (npz(image=BYTES, label=LABELS), Read(12, "0 1 2")),
    "`.npz` with another name": (npz(faces=BYTES, size=np.array(10)), Read(12, said="out: size")),
    "KMNIST: a folder with `kmnist-train-imgs.npz`, …": (made.kmnist, Read(12, "0 1 2", 5)),
    "dSprites: `imgs`, `latents_classes`, `metadata`": (
        made.dsprites,
        Read(12, said="left out: metadata (holds object); 0 and 1|2 numbers per image"),
    ),
    "`.npy`: `x_train.npy` beside `y_train.npy`": (made.npy, Read(12, "0 1 2")),
    "a folder of `.npy`: `x_train.npy`, `y_train.npy`, `x_test.npy`, …": (
        made.npy_folder, Read(12, "0 1 2", 4)
    ),
    "[N, H, W], [N, C, H, W], [N, H, W, C]": (
        npz(images=np.repeat(BYTES[..., None], 3, -1)), Read(12, shape=(3, 10, 10))
    ),
    "4 channels": (
        npz(images=FOUR), Read(12, said="4 channels are read as colour and opacity; transparent "
                               "parts are placed over black", shape=(3, 10, 10)),
    ),
    "2 channels": (
        npz(images=FOUR[..., :2].transpose(0, 3, 1, 2)), Read(12, said="as grey and opacity")
    ),
    "[N, 784]": (npz(images=BYTES.reshape(12, 100)), Refused(InputError, "use --size 10x10")),
    "[N, 784], with `--size`": (npz(images=BYTES.reshape(12, 100)), Read(12, size=(10, 10))),
    "[N, 30]": (npz(images=ROWS), Refused(InputError, r"\[0, 1\], store them as \[12, 1, 30\]")),
    "[N, 1, 30]": (npz(images=ROWS[:, None]), Read(12, shape=(1, 1, 30))),
    "bool, 0 and 1": (npz(images=DISCS), Read(12, said="0 and 1 are read as black and white")),
    "integers from 0 to 255": (npz(images=BYTES.astype(np.int64)), Read(12)),
    "16 bits": (npz(images=BYTES.astype(np.uint16) * 257), Read(12, said="16 bits are rounded")),
    "12 bits in 16": (
        npz(images=BYTES.astype(np.uint16) * 16),
        Refused(InputError, "looks like 12 bits. Divide them by 4095, or by 65535"),
    ),
    "floats in [0, 1]": (npz(images=F / 255), Read(12)),
    "floats in [-1, 1]": (
        npz(images=F / 127.5 - 1), Refused(InputError, r"Store \(images \+ 1\) / 2")
    ),
    "floats in [0, 255]": (npz(images=F), Refused(InputError, "Divide by 255")),
    "floats, normalised": (
        npz(images=(F - 100) / 40), Refused(InputError, r"undo it: images \* std \+ mean")
    ),
    # Labels
    "1990, 2000, 2010": (npz(images=BYTES, labels=1990 + 10 * LABELS), Read(12, "1990 2000 2010")),
    "from 1, or with -1": (npz(images=BYTES, labels=LABELS - 1), Read(12, "-1 0 1")),
    "one-hot, floats, text": (npz(images=BYTES, labels=np.eye(3)[LABELS]), Read(12, "0 1 2")),
    "a different label for every image": (
        npz(images=np.tile(BYTES, (2, 1, 1)), labels=np.arange(24)),
        Read(24, said="no labels, as labels holds 24 different values for as many images"),
    ),
    "several numbers per image": (
        npz(images=BYTES, labels=np.ones((12, 5), int)), Read(12, said="5 numbers per image")
    ),
    "labels for other images": (
        npz(images=BYTES, labels=LABELS[1:]), Refused(InputError, "11 labels for 12 images")
    ),
    # IDX and Parquet
    "`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-…`": (
        lambda root: made.idx_files(root), Read(12, "0 1 2", 4, "4 images of t10k-images-idx3")
    ),
    "torchvision: `MNIST/raw/`": (made.torchvision, Read(12, "0 1 2", 4)),
    "one IDX file": (
        lambda root: made.idx_files(root) or root / "t10k-images-idx3-ubyte", Read(4, "0 1 2")
    ),
    "EMNIST: `gzip/emnist-letters`": (made.emnist, Read(12, "a b c", 4, "turned upright")),
    "several data sets in a folder: `gzip/`": (
        made.emnist_folder, Refused(InputError, "Use one of .*emnist-balanced, .*emnist-letters")
    ),
    "Parquet, as Hugging Face writes it: `data/train-00000-of-00001.parquet`": (
        made.hugging_face,
        Read(12, "cat dog emu", 4, "left out: 3 in validation-00000-of-00001.parquet", (3, 10, 10)),
    ),
    "Parquet with numbers: tensors or nested lists of C×H×W, H×W×C or H×W, lists or bytes of C·H·W":
        (made.parquet_of_numbers, Read(12, "0 1 2")),
    # Other files
    "`.zip`, `.tar`": (made.other("x.zip"), Refused(InputError, "Unpack it")),
    "`.csv`": (made.other("x.csv"), Refused(InputError, r"numpy\.loadtxt.*savez")),
    "`.mat`, `.h5`": (made.other("x.mat"), Refused(InputError, r"scipy\.io\.loadmat")),
    "pickles, such as `cifar-10-batches-py/`": (
        made.other("x.pkl"), Refused(InputError, "may run code")
    ),
}  # fmt: skip


def rows(page: str) -> list[str]:
    """Return the first cell of each row of the page's tables."""
    cells = re.findall(r"^\| (.+?) \| ", page, re.M)
    return [cell for cell in cells if cell not in ("---", "layout", "labels", "file")]


def test_the_page_and_the_tests_have_the_same_rows() -> None:
    assert rows(PAGE.read_text()) == list(CASES)


@pytest.mark.parametrize("row", CASES)
def test_a_layout(row: str, tmp_path: Path) -> None:
    make, expected = CASES[row]
    if "Parquet" in row and not importlib.util.find_spec("pyarrow"):
        pytest.skip("pyarrow is not installed: the extra arrow")
    source = make(tmp_path) or tmp_path
    said: list[str] = []
    options = ReadOptions(size=expected.size)
    if isinstance(expected, Refused):
        with pytest.raises(expected.error, match=expected.advice) as caught:
            load_splits(source, said.append, options, labelled=True)
        assert str(caught.value).startswith(str(tmp_path))
        return
    data, test = load_splits(source, said.append, options, labelled=True)
    assert data.images.shape == (expected.n, *expected.shape)
    assert data.classes == tuple(expected.classes.split())
    assert (data.labels is None) == (not expected.classes)
    assert (test and len(test)) == expected.test
    for words in expected.said.split("|"):
        assert words in " ".join(said)
    assert bool(said) == bool(expected.said or expected.test)
    check_that_commands_agree(source, ImageSpec(*expected.shape))


def check_that_commands_agree(source: Path, spec: ImageSpec) -> None:
    """`vae-export` and `vae-run` read the same pixels and labels."""
    held_out = load_held_out(source, lambda line: None, ReadOptions(spec.shape[1:], spec.mode))
    found = read_images((str(source),), spec, resize=True)
    pixels = found.images if found.images.dtype == np.uint8 else np.rint(found.images * 255)
    np.testing.assert_array_equal(pixels, held_out.images)
    if held_out.labels is not None and not str(source).endswith(".npy"):
        assert found.labels == [held_out.classes[k] for k in held_out.labels]
    assert len(set(found.names)) == len(found)
