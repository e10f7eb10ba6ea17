"""Image folders."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vae_runtime.datasets import load_dataset
from vae_runtime.errors import InputError, NotFound

pytestmark = pytest.mark.torch_free


def picture(path: Path, *shape: int, level: int | None = None) -> NDArray[np.uint8]:
    """Write a lossless image of this shape and return its pixels."""
    rng = np.random.default_rng(crc32(path.name.encode()))
    pixels = rng.integers(0, 256, shape, np.uint8) if level is None else np.full(shape, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return pixels.astype(np.uint8)


def test_a_folder_of_classes(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    dog = picture(root / "dog" / "b.png", 4, 5)
    cat = [picture(root / "cat" / name, 4, 5) for name in ("1.png", "2.bmp")]
    data = load_dataset(root)
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1]
    assert np.array_equal(data.images[:, 0], np.stack([*cat, dog]))


def test_extensions_of_images_may_have_any_case(tmp_path: Path) -> None:
    for name in ("a.png", "b.JPG", "c.jpeg", "d.webp", "e.BMP"):
        picture(tmp_path / name, 8, 8, 3, level=90)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load_dataset(tmp_path)
    assert data.images.shape == (5, 3, 8, 8)
    assert np.abs(data.images.astype(int) - 90).max() <= 2
    assert data.labels is None


def test_hidden_files_and_folders_are_ignored(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "a.png", 4, 4)
    picture(tmp_path / ".cache" / "a.png", 4, 4)
    (tmp_path / "cat" / "._a.png").write_bytes(b"resource fork")
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "folder.png").mkdir()
    data = load_dataset(tmp_path)
    assert data.classes == ("cat",)
    assert len(data) == 1


def test_train_and_test_folders_are_the_splits(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "train" / name / "1.png", 4, 4)
    picture(tmp_path / "test" / "c" / "1.png", 4, 4)
    picture(tmp_path / "test" / "b" / "1.png", 4, 4)
    assert load_dataset(tmp_path).classes == ("a", "b", "c")
    test = load_dataset(tmp_path, "test")
    assert test.classes == (
        "a",
        "b",
        "c",
    )  # `a` has no test images
    assert test.labels is not None
    assert test.labels.tolist() == [1, 2]


def test_classes_that_only_the_test_split_has_come_last(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "cat" / "1.png", 4, 4)
    picture(tmp_path / "test" / "cat" / "1.png", 4, 4)
    picture(tmp_path / "test" / "ant" / "1.png", 4, 4)
    test = load_dataset(tmp_path, "test")
    assert test.classes == ("cat", "ant")
    assert test.labels is not None
    assert test.labels.tolist() == [1, 0]
    assert test.files == tuple(str(tmp_path / "test" / name / "1.png") for name in ("ant", "cat"))


def test_without_a_test_folder_there_is_no_test_split(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png", 4, 4)
    with pytest.raises(NotFound, match="no test split"):
        load_dataset(tmp_path, "test")
    picture(tmp_path / "train" / "cat" / "1.png", 4, 4)
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(
        NotFound, match=r"no test split, it has train/\. To read that, use .*train$"
    ):
        load_dataset(tmp_path, "test")


def test_a_folder_without_images_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no images \(\.png"):
        load_dataset(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "a.png", 4, 4)
    (tmp_path / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(InputError, match=r"broken\.png"):
        load_dataset(tmp_path)


def test_mixed_sizes_are_refused_with_both_names_and_a_solution(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 4, 6)
    picture(tmp_path / "b.png", 5, 6)
    with pytest.raises(
        InputError, match=r"b\.png: 5x6 pixels, expected 4x6 like a\.png.*--size 4x6"
    ):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, size=(3, 2)).image_shape == (1, 3, 2)


@pytest.mark.parametrize("first", ["grey", "colour"])
def test_grey_images_among_colour_images_become_colour_without_loss(
    first: str, tmp_path: Path
) -> None:
    names = ("1.png", "2.png") if first == "grey" else ("2.png", "1.png")
    grey, colour = picture(tmp_path / names[0], 4, 4), picture(tmp_path / names[1], 4, 4, 3)
    images = dict(zip(sorted(names), load_dataset(tmp_path).images, strict=True))
    assert np.array_equal(images[names[0]], np.stack([grey] * 3))
    assert np.array_equal(images[names[1]], colour.transpose(2, 0, 1))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_the_mode_of_image_files_can_be_chosen(mode: str, channels: int, tmp_path: Path) -> None:
    picture(tmp_path / "1.png", 4, 4)
    picture(tmp_path / "2.png", 4, 4, 3)
    assert load_dataset(tmp_path, mode=mode).image_shape == (channels, 4, 4)
