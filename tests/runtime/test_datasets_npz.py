"""`.npz` files, and the checks of every data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import InputError, LimitError, MissingExtra, NotFound, UsageError

pytestmark = pytest.mark.torch_free


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), np.uint8)


@pytest.mark.parametrize(
    ("stored", "shape"),
    [
        (IMAGES, (1, 5, 4)),
        (IMAGES[:, None], (1, 5, 4)),
        (IMAGES[..., None], (1, 5, 4)),
        (np.stack([IMAGES] * 3, 1), (3, 5, 4)),
        (np.stack([IMAGES] * 3, -1), (3, 5, 4)),
    ],
    ids=["NHW", "N1HW", "NHW1", "N3HW", "NHW3"],
)
def test_arrays_in_every_layout(stored: NDArray[np.uint8], shape: Any, tmp_path: Path) -> None:
    data = load_dataset(npz(tmp_path / "a.npz", images=stored))
    assert data.name == "a"
    assert data.image_shape == shape
    assert np.array_equal(data.images, np.repeat(IMAGES[:, None], shape[0], 1))
    assert data.images.flags.c_contiguous


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_0_to_1_are_rounded_to_levels(kind: Any, tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    stored = (levels / 255).astype(kind)
    found = load_dataset(npz(tmp_path / "a.npz", images=stored)).images[:, 0]
    assert np.abs(found.astype(int) - levels).max() <= (kind == np.float16)


def test_floats_are_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    stored = np.array([0.4, 0.6, 1.4, 254.4, 254.6]).reshape(1, 1, 5) / 255
    found = load_dataset(npz(tmp_path / "a.npz", images=stored)).images
    assert found.ravel().tolist() == [0, 1, 1, 254, 255]


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (np.full((2, 3, 3), 255.0), r"from 255 to 255, expected \[0, 1\]\. Divide by 255"),
        (np.full((2, 3, 3), -0.1), "from -0.1 to -0.1, expected"),
        (np.full((2, 3, 3), np.nan), "from nan to nan, expected finite"),
        (np.full((2, 3, 3), np.inf), "from inf to inf, expected finite"),
        (np.full((2, 3, 3), -1), "int64 images run from -1 to -1, expected 0 to 255"),
        (np.full((2, 3, 3), 70_000), "from 70000 to 70000, expected 0 to 255 or 0 to 65535"),
        (np.zeros((2, 3, 3), complex), "complex128"),
        (np.full((2, 3, 3), "x"), "expected uint8"),
        (np.zeros((2, 9), np.uint8), r"\[2, 9\], rows of 9 numbers\. Vectors and series"),
        (np.zeros((20, 16, 3), np.uint8), r"one colour image, expected \[N, H, W, C\]"),
        (np.full((2, 3, 3), 16.0), "Divide by the level of white, such as 16 or 255"),
        (np.zeros((2, 5, 6, 7), np.uint8), r"\[2, 5, 6, 7\], expected 1 to 4 channels"),
        (np.zeros((1, 2, 3, 4, 5), np.uint8), "3 or 4 dimensions"),
        (np.zeros((0, 3, 3), np.uint8), "at least one image"),
        (np.zeros((0, 3, 3), np.float32), "at least one image"),
    ],
)
def test_other_images_are_refused(images: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"a\.npz: .*{named}"):
        load_dataset(npz(tmp_path / "a.npz", images=images))


def test_labels_and_names_of_both_splits(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.array([0, 1, 0, 1, 0, 1], np.uint8),
        test_images=IMAGES[:3],
        test_labels=np.array([1, 1, 0]),
        classes=np.array(["left", "right"]),
    )
    data, test = load_dataset(path), load_dataset(path, "test")
    assert data.classes == test.classes == ("left", "right")
    assert data.labels is not None
    assert test.labels is not None
    assert (data.labels.tolist(), test.labels.tolist()) == ([0, 1, 0, 1, 0, 1], [1, 1, 0])
    assert len(test) == 3


def test_without_names_the_classes_are_the_numbers_of_both_splits(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.array([0, 1, 2, 2, 2, 1]),
        test_images=IMAGES[:2],
        test_labels=np.array([0, 3]),
    )
    assert load_dataset(path).classes == load_dataset(path, "test").classes == tuple("0123")


@pytest.mark.parametrize(
    ("arrays", "named"),
    [
        ({"labels": np.zeros(5, np.int64)}, "a.npz: 5 labels for 6 images"),
        ({"labels": np.array([], np.int64)}, "0 labels for 6 images"),
        ({"labels": np.arange(6), "classes": np.array(["a", "b"])}, "expected 0 to 1"),
        ({"labels": np.zeros(6, int), "classes": np.array(["a", "a"])}, "same name"),
        ({"labels": np.zeros(6, int), "classes": np.array("a")}, "one name each"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    arrays: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=named):
        load_dataset(npz(tmp_path / "a.npz", images=IMAGES, **arrays))


def test_a_pickled_array_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=np.array([{"any": "object"}, None], object))
    with pytest.raises(InputError, match=r"a\.npz: images: holds object, expected plain numbers$"):
        load_dataset(path)


@pytest.mark.parametrize("raw", [b"", b"hello", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00"])
def test_files_that_are_not_npz_are_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(raw)
    with pytest.raises(InputError, match="not a readable"):
        load_dataset(path)


def test_a_single_array_is_not_an_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(InputError, match="not a readable"):
        load_dataset(tmp_path / "a.npz")


def test_a_damaged_npz_is_read_or_refused_without_other_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, images=IMAGES, labels=np.arange(6))
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(raw)
        for offset in rng.integers(0, len(raw), 2):
            broken[offset] = int(rng.integers(256))
        path.write_bytes(broken)
        try:
            data = load_dataset(path)
        except (InputError, LimitError, NotFound):
            continue
        assert data.images.dtype == np.uint8


def test_the_error_for_an_npz_without_images_lists_its_arrays(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(NotFound, match=r"no array of images; it has a, b\. Call the images"):
        load_dataset(path)
    with pytest.raises(NotFound, match="no images for the test split; it has images"):
        load_dataset(npz(path, images=IMAGES), "test")


@pytest.mark.parametrize("name", ["nothing", "a.npz", "folder/"])
def test_no_such_data(name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load_dataset(tmp_path / name)


def test_the_error_for_another_kind_of_file_names_the_expected_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"a single file, expected images, .*numpy\.loadtxt"):
        load_dataset(tmp_path / "a.csv")
    with pytest.raises(NotFound, match=r"no such data\. Expected mnist, fashion, digits, or"):
        load_dataset(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"split": "validation"}, "split is 'validation'"),
        ({"mode": "CMYK"}, "mode is 'CMYK'"),
        ({"mode": "RGB"}, "expected RGB; only image files can be changed"),
        ({"size": (4, 5)}, "expected 4x5; only image files can be changed"),
    ],
)
def test_arguments_without_effect_are_refused(
    arguments: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named):
        load_dataset(npz(tmp_path / "a.npz", images=IMAGES), **arguments)


def test_a_size_and_mode_that_match_the_data_are_accepted(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", images=IMAGES)
    assert load_dataset(path, size=(5, 4), mode="L").image_shape == (1, 5, 4)


def test_without_scikit_learn_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match="Run: pip install scikit-learn"):
        load_dataset("digits")


def small(**changes: Any) -> Dataset:
    fields = {"images": IMAGES[:, None], "labels": np.arange(6) % 2, "classes": ("a", "b")}
    return Dataset("small", **(fields | changes))


def test_a_subset_of_a_data_set() -> None:
    part = small().take(np.array([4, 1]))
    assert (len(part), part.name, part.classes, part.image_shape) == (
        2,
        "small",
        ("a", "b"),
        (1, 5, 4),
    )
    assert part.labels is not None
    assert part.labels.tolist() == [0, 1]
    assert np.array_equal(part.images, IMAGES[[4, 1], None])
    assert small(labels=None, classes=()).take(slice(2)).labels is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"images": IMAGES}, r"uint8\[6, 5, 4\]"),
        ({"images": IMAGES[:, None].astype(np.float32)}, "float32"),
        ({"images": IMAGES[:0, None]}, "at least one image"),
        ({"labels": np.zeros(5, int)}, "for 6 images"),
        ({"labels": np.zeros((6, 1), int)}, r"\[6, 1\] for 6 images"),
        ({"labels": np.full(6, 2)}, "run from 2 to 2, expected 0 to 1"),
        ({"labels": np.full(6, -1)}, "run from -1"),
        ({"classes": ("a", "a")}, "same name"),
        ({"classes": ()}, "expected 0 to -1"),
    ],
)
def test_an_inconsistent_data_set_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=f"small: .*{named}"):
        small(**changes)
