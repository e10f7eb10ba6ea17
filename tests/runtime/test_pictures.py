"""Write images: levels, grids, files, animations."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vae_runtime import images as module
from vae_runtime.errors import LimitError, UsageError
from vae_runtime.grids import grid_columns, tile
from vae_runtime.images import (
    encode_animation,
    encode_image,
    read_image,
    to_pil,
    to_uint8,
)

pytestmark = pytest.mark.torch_free

Bytes = NDArray[np.uint8]


def noise(*shape: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def decoded(raw: bytes) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(raw)))


GREY = noise(5, 7)


def test_levels_are_rounded_to_the_nearest_and_clipped() -> None:
    values = np.array([0, 0.5 / 255 - 1e-6, 0.5 / 255 + 1e-6, 1 / 255, 0.5, 1, -3, 9], np.float32)
    assert to_uint8(values).tolist() == [0, 0, 1, 1, 128, 255, 0, 255]
    every = (np.arange(256) / 255).astype(np.float32)
    assert to_uint8(every).tolist() == list(range(256))


def test_uint8_is_returned_unchanged() -> None:
    assert to_uint8(GREY).tolist() == GREY.tolist()


def test_a_grid_is_laid_out_row_by_row() -> None:
    images = np.arange(1, 6, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 1, 2, 3), np.uint8)
    expected = [
        [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3],
        [1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [4, 4, 4, 0, 5, 5, 5, 0, 0, 0, 0],
        [4, 4, 4, 0, 5, 5, 5, 0, 0, 0, 0],
    ]
    assert tile(images, 3, gap=1).tolist() == [expected]


def test_a_colour_grid_without_gaps() -> None:
    images = noise(4, 3, 2, 2)
    found = tile(images, 2, gap=0)
    assert found.shape == (3, 4, 4)
    assert np.array_equal(found[:, :2, 2:], images[1])
    assert np.array_equal(found[:, 2:, :2], images[2])


def test_a_grid_is_no_wider_than_its_images() -> None:
    assert tile(noise(2, 1, 4, 4), 10).shape == (1, 4, 10)


@pytest.mark.parametrize(("n", "columns"), [(0, 3), (3, 0)])
def test_an_empty_grid_is_refused(n: int, columns: int) -> None:
    with pytest.raises(UsageError, match="at least one image and one column"):
        tile(noise(n, 1, 2, 2), columns)


@pytest.mark.parametrize(
    ("n", "columns"), [(0, 1), (1, 1), (2, 2), (4, 2), (5, 3), (16, 4), (17, 5)]
)
def test_columns_of_the_squarest_grid(n: int, columns: int) -> None:
    assert grid_columns(n) == columns


def test_each_pixel_is_drawn_as_a_square() -> None:
    picture = to_pil(np.array([[[1, 2], [3, 4]]], np.uint8), scale=2)
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert np.asarray(picture).tolist() == expected


@pytest.mark.parametrize("extension", [".png", ".PNG", ".bmp", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoded_image_is_read_back(extension: str, channels: int) -> None:
    image = noise(channels, 6, 5)
    found = read_image(encode_image(image, extension), mode="L" if channels == 1 else "RGB")
    assert np.array_equal(found, image)


@pytest.mark.parametrize("extension", [".jpg", ".jpeg"])
def test_jpeg_is_written_at_a_quality_that_keeps_edges(extension: str) -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    image[:, 5:11, 5:11] = 255
    found = read_image(encode_image(image, extension))
    assert np.abs(found.astype(int) - image).mean() < 4


def test_floats_are_encoded_as_levels() -> None:
    image = np.linspace(0, 1, 20, dtype=np.float32).reshape(1, 4, 5)
    assert np.array_equal(decoded(encode_image(image)), to_uint8(image)[0])


@pytest.mark.parametrize("extension", [".txt", "", ".tiff", "png"])
def test_an_unknown_type_is_refused(extension: str) -> None:
    with pytest.raises(UsageError, match=r"not an image type\. Expected \.png"):
        encode_image(noise(1, 2, 2), extension)


@pytest.mark.parametrize(("extension", "side"), [(".webp", 16_384), (".jpg", 65_501)])
def test_an_image_too_large_for_the_format_is_refused(extension: str, side: int) -> None:
    with pytest.raises(LimitError, match=r"Use \.png"):
        encode_image(np.zeros((1, 1, side), np.uint8), extension)


@pytest.mark.parametrize("extension", [".gif", ".GIF", ".webp", ".png"])
@pytest.mark.parametrize(("n", "expected"), [(1, 1), (2, 2), (3, 4), (6, 10)])
def test_an_animation_plays_forwards_and_backwards(n: int, expected: int, extension: str) -> None:
    frames = [np.full((1, 4, 4), 40 * (i + 1), np.uint8) for i in range(n)]
    with Image.open(io.BytesIO(encode_animation(frames, extension, scale=2, ms=120))) as picture:
        assert getattr(picture, "n_frames", 1) == expected
        seen = []
        for k in range(expected):
            picture.seek(k)
            seen.append(int(np.asarray(picture.convert("L"))[0, 0]))
            assert n == 1 or picture.info["duration"] == 120
        assert picture.size == (8, 8)
        assert n == 1 or picture.info.get("loop", 0) == 0
    there_and_back = [*range(n), *range(n - 2, 0, -1)]
    assert seen == [40 * (i + 1) for i in there_and_back]


def test_a_colour_animation() -> None:
    frames = list(noise(3, 3, 5, 4))
    with Image.open(io.BytesIO(encode_animation(frames, ".webp"))) as picture:
        picture.seek(1)
        found = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(found, frames[1])


@pytest.mark.parametrize("extension", [".jpg", ".bmp", "", ".mp4"])
def test_a_format_without_animations_is_refused(extension: str) -> None:
    with pytest.raises(UsageError, match=r"cannot hold an animation\. Expected \.gif"):
        encode_animation([noise(1, 2, 2)], extension)


def test_an_animation_without_frames_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one frame"):
        encode_animation([], ".gif")


def test_pillow_is_imported_only_when_it_is_needed() -> None:
    assert "Image" not in vars(module)
