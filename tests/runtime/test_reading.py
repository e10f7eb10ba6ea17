"""Details of reading data: exact pixels, roles of arrays, labels, limits and progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.cli.inputs import read_images
from vae_runtime.datasets import ReadOptions, folder, load_dataset, load_held_out, load_splits
from vae_runtime.errors import InputError, LimitError, VaeError

from . import layouts as made
from .layouts import BYTES, DISCS, LABELS, Make, npz

pytestmark = pytest.mark.torch_free

SMALL = (1, 10, 10)
FOUR = np.repeat(BYTES[..., None], 4, -1)


def pixels_of(make: Make, root: Path, **options: Any) -> Any:
    return load_dataset(make(root) or root, **options).images


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (npz(images=DISCS), BYTES[:, None]),
        (npz(images=BYTES.astype(np.uint16) * 257), BYTES[:, None]),
        (npz(images=BYTES.reshape(12, 100)), BYTES[:, None]),
        (npz(images=FOUR), np.repeat(BYTES[:, None], 3, 1)),
        (made.masks, BYTES[:4, None]),
        (made.two_depths, BYTES[:4, None]),
        (made.icons, np.repeat(255 - BYTES[:4, None], 3, 1)),
        (made.emnist, BYTES[:, None].swapaxes(2, 3)),
        (made.npy, BYTES[:, None]),
    ],
)
def test_the_pixels_are_right(make: Make, expected: Any, tmp_path: Path) -> None:
    np.testing.assert_array_equal(pixels_of(make, tmp_path, size=(10, 10)), expected)


def test_a_photograph_keeps_its_colour_at_a_reduced_scale(tmp_path: Path) -> None:
    found = pixels_of(made.photographs, tmp_path, size=(16, 16))
    assert np.abs(found[1].astype(int) - 101).max() <= 1
    with pytest.raises(VaeError, match=r"0\.jpg: 4000x6000 pixels, limit 16000000.*--size HxW"):
        load_dataset(tmp_path)


def test_a_white_ink_on_transparency_is_placed_over_black(tmp_path: Path) -> None:
    ink = np.full((10, 10, 4), 255, np.uint8)
    ink[..., 3] = BYTES[0]
    made.save(tmp_path / "a.png", ink)
    np.testing.assert_array_equal(load_dataset(tmp_path).images[0], np.stack([BYTES[0]] * 3))


@pytest.mark.parametrize("make", [made.icons, npz(images=FOUR)])
def test_a_model_with_opacity_gets_it(make: Make, tmp_path: Path) -> None:
    source = make(tmp_path) or tmp_path
    found = read_images((str(source),), ImageSpec(4, 10, 10)).images
    np.testing.assert_array_equal(found[:4, 3], BYTES[:4])
    data = load_held_out(source, lambda line: None, ReadOptions(mode="RGBA"))
    np.testing.assert_array_equal(data.images, found)
    np.save(tmp_path / "x.npy", FOUR)
    found = read_images((str(tmp_path / "x.npy"),), ImageSpec(4, 10, 10)).images
    np.testing.assert_array_equal(found, FOUR.transpose(0, 3, 1, 2))


def test_a_limit_reads_no_further_file(tmp_path: Path) -> None:
    made.fill(tmp_path / "a", 3)
    (tmp_path / "a/9.png").write_bytes(b"damaged")
    options = ReadOptions(limit=3)
    found = load_held_out(tmp_path, lambda line: None, options)
    assert (len(found), found.labels is not None and found.labels.tolist()) == (3, [0, 0, 0])
    assert len(read_images((str(tmp_path),), ImageSpec(1, 10, 10), 3)) == 3
    with pytest.raises(InputError, match=r"9\.png: not an image"):
        load_held_out(tmp_path, lambda line: None, replace(options, limit=4))


def test_images_that_do_not_fit_in_memory_are_refused_at_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.fill(tmp_path, 3)
    (tmp_path / "1.png").write_bytes(b"damaged, but not reached")
    monkeypatch.setattr(folder, "MAX_BYTES", 299)
    with pytest.raises(LimitError, match=r"3 images of 10x10 pixels need over .*--size HxW"):
        load_dataset(tmp_path)


def test_test_images_without_labels_are_left_out_if_labels_are_needed(tmp_path: Path) -> None:
    made.fill(tmp_path / "train/a", 3)
    made.fill(tmp_path / "test", 2)
    said: list[str] = []
    _, test = load_splits(tmp_path, said.append, ReadOptions(), labelled=True)
    assert test is None
    assert said[1].endswith("2 images of test/; 2 are not used, as they have no labels")
    _, test = load_splits(tmp_path, said.append, ReadOptions(), labelled=False)
    assert test is not None
    assert len(test) == 2


def test_progress_is_tracked_over_the_files(tmp_path: Path) -> None:
    made.fill(tmp_path, 3)
    seen: list[int] = []

    def track(files: Any, total: int) -> Any:
        seen.append(total)
        return files

    load_held_out(tmp_path, lambda line: None, ReadOptions(track=track))
    assert seen == [3]


def test_roles_of_arrays_are_told_apart(tmp_path: Path) -> None:
    other = np.zeros(99)
    data = load_dataset(
        npz(x=BYTES, y=LABELS, grid_x=other, grid_y=other, image_ids=other)(tmp_path) or ""
    )
    assert (data.images.shape, data.classes) == ((12, *SMALL), ("0", "1", "2"))
    assert data.notes == ("left out: grid_x, grid_y, image_ids",)
    data = load_dataset(npz(image_ids=other, image=BYTES, trainLabel=LABELS)(tmp_path) or "")
    assert (data.labels is not None, data.notes) == (True, ("left out: image_ids",))
    data = load_dataset(npz(arr_0=BYTES, arr_1=LABELS)(tmp_path) or "")
    assert (data.classes, data.notes) == (("0", "1", "2"), ())
    made.kmnist(tmp_path)
    np.savez(tmp_path / "k49-train-imgs.npz", BYTES)
    (tmp_path / "data.npz").unlink()
    with pytest.raises(InputError, match="k49-train-imgs and kmnist-train-imgs could both be"):
        load_dataset(tmp_path)
    labelled = load_dataset(tmp_path / "kmnist-train-imgs.npz")
    assert labelled.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "classes", "order"),
    [
        (LABELS + 1, "1 2 3", (0, 1, 2)),
        (LABELS.astype(float), "0 1 2", (0, 1, 2)),
        (LABELS[:, None].astype(np.uint8), "0 1 2", (0, 1, 2)),
        (np.array(["cat", "dog", "ant"])[LABELS], "ant cat dog", (1, 2, 0)),
        (np.array([b"cat", b"dog", b"emu"])[LABELS], "cat dog emu", (0, 1, 2)),
        (np.array(["10", "9", "-1"])[LABELS], "-1 9 10", (2, 1, 0)),
        (np.array([1000, 30000, 60000])[LABELS], "1000 30000 60000", (0, 1, 2)),
        (np.array([0, 2**64 - 1, 5], np.uint64)[LABELS], "0 5 18446744073709551615", (0, 2, 1)),
        (LABELS > 0, "0 1", (0, 1, 1)),
    ],
)
def test_labels_of_every_type(
    labels: Any, classes: str, order: tuple[int, ...], tmp_path: Path
) -> None:
    data = load_dataset(npz(images=BYTES, labels=labels)(tmp_path) or "")
    assert data.classes == tuple(classes.split())
    assert data.labels is not None
    assert [data.classes[k] for k in data.labels[:3]] == [classes.split()[k] for k in order]


def test_hidden_test_labels_make_no_class(tmp_path: Path) -> None:
    hidden = np.full(4, -1)
    source = npz(x_train=BYTES, y_train=LABELS, x_test=BYTES[:4], y_test=hidden)(tmp_path) or ""
    said: list[str] = []
    data, test = load_splits(source, said.append, ReadOptions(), labelled=True)
    assert (data.classes, test) == (("0", "1", "2"), None)
    assert said[1].endswith("y_test holds -1 everywhere, which means unknown; 4 are not used, as "
                            "they have no labels")  # fmt: skip


def test_labels_of_idx_files_that_are_identifiers_are_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "Own/raw"
    folder.mkdir(parents=True)
    images = np.tile(BYTES, (2, 1, 1))
    (folder / "train-images-idx3-ubyte").write_bytes(made.idx(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(made.idx(np.arange(24, dtype=np.uint8)))
    data = load_dataset(tmp_path)
    assert (data.name, data.labels, len(data)) == ("Own", None, 24)
    assert "24 different values" in data.notes[0]


def test_fashion_mnist_is_known_by_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashlib import sha256

    from vae_runtime.datasets import known

    made.idx_files(tmp_path / "FashionMNIST/raw")
    assert load_dataset(tmp_path).classes == ("0", "1", "2")
    digest = sha256(made.idx(LABELS.astype(np.uint8))).hexdigest()
    fake = replace(known.FASHION, digests=("", digest, "", ""))
    monkeypatch.setattr(known, "FASHION", fake)
    assert load_dataset(tmp_path).classes == ("t-shirt", "trouser", "pullover")
