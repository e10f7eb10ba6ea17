"""Draw grids with labels, and save them by extension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.errors import FileError, InputError, UsageError
from vae_runtime.grids import grid_scale
from vae_runtime.images import to_pil

pytestmark = pytest.mark.torch_free


def noise(*shape: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(
    ("shape", "columns", "scale"),
    [
        ((1, 1, 28, 28), 1, 8),
        ((16, 1, 28, 28), 4, 8),
        ((100, 1, 28, 28), 10, 4),
        ((1, 3, 64, 64), 1, 4),
        ((1, 3, 512, 512), 1, 1),
        ((1000, 1, 28, 28), 32, 1),
    ],
)
def test_small_images_are_enlarged(shape: tuple[int, ...], columns: int, scale: int) -> None:
    assert grid_scale(shape, columns) == scale


def test_a_single_image_is_enlarged_exactly() -> None:
    image = noise(1, 1, 28, 28)
    drawn = np.asarray(vae.grid(image))
    assert drawn.shape == (224, 224)
    assert np.array_equal(drawn[::8, ::8], image[0, 0])


@pytest.mark.parametrize(
    "layout", [(3, 0, 1, 2), (2, 3, 0, 1)], ids=["channels first", "channels last"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_both_layouts_are_drawn_alike(layout: tuple[int, ...], channels: int) -> None:
    images = noise(5, channels, 6, 7)
    expected = np.asarray(vae.grid(images, scale=1))
    other = images.transpose(0, 2, 3, 1)
    assert np.array_equal(np.asarray(vae.grid(other, scale=1)), expected)
    assert np.array_equal(np.asarray(vae.grid(other.astype(np.float64) / 255, scale=1)), expected)
    single = np.asarray(vae.grid(images[0], scale=1))
    assert np.array_equal(single, np.asarray(to_pil(images[0])))
    if channels == 1:
        assert np.array_equal(np.asarray(vae.grid(images[:, 0], scale=1)), expected)
        assert np.array_equal(np.asarray(vae.grid(images[0, 0], scale=1)), single)


def test_a_label_that_a_row_shares_is_drawn_once_at_its_left() -> None:
    images = noise(6, 1, 28, 28)
    plain = vae.grid(images, columns=3, scale=4)
    drawn = vae.grid(images, labels=[0, 0, 0, 1, 1, 1], columns=3, scale=4)
    margin = drawn.width - plain.width
    assert margin > 0
    assert drawn.height == plain.height
    assert np.array_equal(np.asarray(drawn)[:, margin:], np.asarray(plain))
    left = np.asarray(drawn)[:, :margin]
    assert left[: plain.height // 2].max() == left[plain.height // 2 :].max() == 200


def test_other_labels_are_drawn_below_each_image() -> None:
    images = noise(4, 3, 28, 28)
    drawn = np.asarray(vae.grid(images, ["cat", "dog", "猫", "a very long name indeed"], scale=4))
    below = drawn[112:, :112]
    assert np.array_equal(drawn[:112, :112], np.asarray(to_pil(images[0], 4)))
    assert below[:20].max() == 200
    without = np.asarray(vae.grid(images, ["", "b", "c", "d"], scale=4))
    assert without[112:128, :112].max() == 0


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.full((1, 1, 2, 2), 1.5),
            InputError,
            r"values run from 1\.5 to 1\.5, exp",
        ),
        (np.full((1, 1, 2, 2), np.nan), InputError, "values run from nan"),
        (np.zeros((1, 1, 2, 2), np.int64), InputError, "int64, expected uint8 or floats"),
        (noise(2, 5, 5, 5), InputError, r"shape \[2, 5, 5, 5\], expected \[N, C, H, W\]"),
        (noise(0, 1, 2, 2), UsageError, "at least one image"),
    ],
)
def test_what_is_not_images_is_refused(images: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        vae.grid(images)


def test_the_number_of_labels_must_fit() -> None:
    with pytest.raises(UsageError, match="1 labels for 2 images, expected one per image"):
        vae.grid(noise(2, 1, 4, 4), labels=[1])


def test_the_name_decides_what_is_saved(tmp_path: Path) -> None:
    images = noise(5, 1, 28, 28)
    vae.save(images, tmp_path / "x.png", labels=range(5))
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(vae.grid(images, range(5))))
    vae.save(images, tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as animation:
        assert (animation.n_frames, animation.size) == (8, (224, 224))  # type: ignore[attr-defined]
    vae.save(images, str(tmp_path / "folder"))
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == [
        f"00{i}.png" for i in range(5)
    ]
    with Image.open(tmp_path / "folder" / "003.png") as one:
        assert np.array_equal(np.asarray(one), images[3, 0])


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^\.tiff: not an image type\. Expected \.png"):
        vae.save(noise(1, 1, 2, 2), tmp_path / "x.tiff")
    with pytest.raises(FileError, match="no such file or directory"):
        vae.save(noise(1, 1, 2, 2), tmp_path / "none" / "folder")
