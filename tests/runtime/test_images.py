"""Read image files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from vae_runtime.errors import FileError, InputError, LimitError, NotFound
from vae_runtime.images import read_image

pytestmark = pytest.mark.torch_free

Bytes = NDArray[np.uint8]


def noise(*shape: int) -> Bytes:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(raw: bytes) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(raw)))


GREY, COLOUR = noise(5, 7), noise(5, 7, 3)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})]
)
def test_lossless_files_are_read_exactly(kind: str, options: dict[str, Any]) -> None:
    found = read_image(encoded(Image.fromarray(COLOUR), kind, **options))
    assert found.dtype == np.uint8
    assert np.array_equal(found, COLOUR.transpose(2, 0, 1))


def test_grey_stays_grey() -> None:
    assert np.array_equal(read_image(encoded(Image.fromarray(GREY))), GREY[None])


def test_jpeg_is_read_approximately() -> None:
    smooth = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    found = read_image(encoded(Image.fromarray(smooth), "JPEG", quality=95))
    assert found.shape == (1, 16, 16)
    assert np.abs(found[0].astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_the_content_decides_the_format(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(encoded(Image.fromarray(COLOUR), kind))
    assert read_image(path).shape == (3, 5, 7)


@pytest.mark.parametrize("kind", ["ICO", "TGA"])
def test_other_kinds_of_image_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"not an image\. Expected PNG, JPEG, WEBP, BMP, GIF"):
        read_image(encoded(Image.fromarray(COLOUR), kind))


@pytest.mark.parametrize("raw", [b"", b"hello", b"\x89PNG\r\n\x1a\n"])
def test_other_files_are_refused(raw: bytes) -> None:
    with pytest.raises(InputError):
        read_image(raw)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str) -> None:
    raw = encoded(Image.fromarray(noise(40, 30, 3)), kind)
    whole = len(raw) - (2 if kind == "BMP" else 0)  # the padding of the last line of a BMP
    for length in [*range(0, whole, max(1, whole // 60)), *range(whole - 16, whole)]:
        with pytest.raises(InputError):
            read_image(raw[:length])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_a_damaged_file_is_read_or_refused_without_other_errors(kind: str) -> None:
    raw = bytearray(encoded(Image.fromarray(noise(12, 9, 3)), kind))
    rng = np.random.default_rng(1)
    for _ in range(300):
        broken = bytearray(raw)
        for offset in rng.integers(0, min(len(raw), 120), 3):
            broken[offset] = int(rng.integers(256))
        try:
            found = read_image(bytes(broken))
        except (InputError, LimitError):
            continue
        assert found.dtype == np.uint8


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


def test_a_folder_is_a_file_error_not_a_damaged_image(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="directory"):
        read_image(tmp_path)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"hello")
    with pytest.raises(InputError, match=r"broken\.png: not an image"):
        read_image(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that has a size in its header, but no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + crc

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(4001, 4000), (1, 16_000_001), (9_500, 9_500), (60_000, 60_000)]
)
def test_too_many_pixels_are_refused_by_the_header_alone(width: int, height: int) -> None:
    """Sizes below Pillow's limits, sizes it warns about, and sizes it refuses."""
    with pytest.raises(LimitError, match="16000000"):
        read_image(png_header(width, height))


def test_the_limit_itself_is_allowed() -> None:
    with pytest.raises(InputError, match="damaged"):  # for its missing pixels
        read_image(png_header(4000, 4000))


def test_sixteen_bits_are_scaled_to_the_nearest_level() -> None:
    wide = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.rint(wide / 257).astype(np.uint8)
    found = read_image(encoded(Image.fromarray(wide)))
    assert np.array_equal(found, expected[None])
    assert expected.tolist() == [[0, 0, 1, 1, 128, 254, 255, 255]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_light_ink_on_transparency_is_placed_over_black(kind: str) -> None:
    pixels = np.array([[[200, 150, 50, 0], [200, 150, 50, 255], [200, 150, 50, 128]]], np.uint8)
    found = read_image(
        encoded(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {}))
    )
    expected = np.array([[0, 0, 0], [200, 150, 50], [100, 75, 25]])
    assert np.abs(found[:, 0].T.astype(int) - expected).max() <= 1


def test_a_grey_image_with_transparency_stays_grey() -> None:
    pixels = np.array([[[180, 255], [180, 0], [180, 128]]], np.uint8)
    found = read_image(encoded(Image.fromarray(pixels)))
    assert found.shape == (1, 1, 3)
    assert np.abs(found[0, 0].astype(int) - [180, 0, 90]).max() <= 1


def test_resized_ink_on_transparency_stays_in_range() -> None:
    ink = np.zeros((40, 40, 4), np.uint8)
    ink[10:30, 10:30, 3] = 255
    ink[::3, ::3] = [90, 90, 90, 128]
    found = read_image(encoded(Image.fromarray(ink)), size=(17, 17)).astype(int)
    whole = read_image(encoded(Image.fromarray(ink))).astype(np.uint8)
    expected = Image.fromarray(whole[0]).resize((17, 17), Image.Resampling.LANCZOS)
    assert np.abs(found[0] - np.asarray(expected, int)).max() < 40  # a wrap would be 255


def test_dark_ink_on_transparency_is_placed_over_white() -> None:
    pixels = np.array([[[80, 255], [80, 0], [80, 128]]], np.uint8)
    said: list[str] = []
    found = read_image(encoded(Image.fromarray(pixels)), log=said.append)
    assert np.abs(found[0, 0].astype(int) - [80, 255, 167]).max() <= 1
    assert said == ["transparent parts are placed over white"]


def test_a_transparent_level_of_a_grey_image_becomes_black_and_grey_stays_grey() -> None:
    pixels = np.array([[210, 220, 230]], np.uint8)
    found = read_image(encoded(Image.fromarray(pixels), transparency=220))
    assert found.tolist() == [[[210, 0, 230]]]


def test_a_palette_is_looked_up() -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    picture.putdata([0, 1, 2])
    found = read_image(encoded(picture))
    assert found[:, 0].T.tolist() == [[255, 0, 0], [0, 255, 0], [1, 2, 3]]


def test_a_transparent_palette_entry_becomes_black() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 200, 0, 0, 255, 0])
    picture.putdata([0, 1])
    found = read_image(encoded(picture, transparency=1))
    assert found[:, 0].T.tolist() == [[255, 200, 0], [0, 0, 0]]


def test_one_bit_becomes_black_and_white() -> None:
    assert read_image(encoded(Image.fromarray(np.array([[True, False]])))).tolist() == [[[255, 0]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_photo_is_applied(orientation: int) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # a white corner, top left
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(Image.fromarray(np.ascontiguousarray(turned)), "JPEG", quality=95, exif=exif)
    found = read_image(raw)
    assert found.shape == (1, 16, 32)
    assert np.abs(found[0].astype(int) - upright).max() < 20


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_the_mode_can_be_chosen(pixels: Bytes, mode: str, channels: int) -> None:
    found = read_image(encoded(Image.fromarray(pixels)), mode=mode)
    expected = np.asarray(Image.fromarray(pixels).convert(mode))
    assert len(found) == channels
    assert np.array_equal(found.transpose(1, 2, 0).squeeze(), expected)


def test_an_image_is_resized_height_first() -> None:
    assert read_image(encoded(Image.fromarray(COLOUR)), size=(20, 10)).shape == (3, 20, 10)
    flat = read_image(encoded(Image.new("L", (9, 9), 77)), size=(4, 5))
    assert np.array_equal(flat, np.full((1, 4, 5), 77))


def test_pixels_are_writable() -> None:
    found = read_image(encoded(Image.fromarray(GREY)))
    found[0, 0, 0] = 1
    assert found.flags.c_contiguous
