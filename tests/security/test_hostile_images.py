"""Untrusted image files, read like the inputs of every command."""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.security.pictures import (
    RAMP,
    animated,
    bmp,
    chunk,
    encoded,
    jpeg,
    png,
    ramp,
    sound,
    tagged,
    webp,
    zeros,
)
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.cli.inputs import read_images
from vae_runtime.errors import InputError, LimitError, VaeError

pytestmark = pytest.mark.torch_free

GREY = ImageSpec(1, 8, 8)
PLAIN = zeros(0)


def half_clear() -> Image.Image:
    return Image.merge("LA", [ramp("L"), Image.new("L", (8, 8), 128)])


def one_bit() -> bytes:
    return encoded(ramp("L").point(lambda v: 255 * (v > 127), "1"), "PNG")


def wrong_checksum() -> bytes:
    raw = bytearray(encoded(ramp("L"), "PNG"))
    raw[raw.index(b"IDAT") + 4] ^= 32
    return bytes(raw)


def scans(count: int, between: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan, which refines the pixels by nothing, is repeated."""
    raw = encoded(ramp("L"), "JPEG", quality=95, progressive=True)
    last = raw.rindex(b"\xff\xda")
    return raw[:last] + (between + raw[last:-2]) * count + raw[-2:]


def commented(text: bytes) -> bytes:
    raw = encoded(ramp("L"), "JPEG", quality=95)
    return raw[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text + raw[2:]


def wide(level: int) -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), level, np.uint16)), "PNG")


# By name: the file, the pixels or the error and part of its message, and what is logged.
CASES: dict[str, tuple[bytes, Any, str]] = {
    "PNG": (encoded(ramp("L"), "PNG"), RAMP, ""),
    "JPEG, nearly": (encoded(ramp("L"), "JPEG", quality=95), RAMP, ""),
    "WebP": (encoded(ramp("RGB"), "WEBP", lossless=True), RAMP, "colour is converted to grey"),
    "BMP": (encoded(ramp("L"), "BMP"), RAMP, ""),
    "16 bits": (wide(257 * 100 + 100), np.full((8, 8), 100), ""),
    "16 bits, full": (wide(65535), np.full((8, 8), 255), ""),
    "alpha": (encoded(half_clear(), "PNG"), 127 + RAMP * (128 / 255), "placed over white"),
    "alpha, all opaque": (encoded(ramp("LA"), "PNG"), RAMP, ""),
    "EXIF orientation": (tagged(6), np.rot90(RAMP, 3), ""),
    "EXIF, no such orientation": (tagged(77), RAMP, ""),
    "EXIF, damaged": (
        encoded(ramp("L"), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40), RAMP, ""
    ),
    "animated WebP": (animated("WEBP"), np.zeros((8, 8)), "only the first frame"),
    "animated PNG": (animated("PNG"), np.zeros((8, 8)), "only the first frame"),
    "CMYK": (encoded(ramp("CMYK"), "JPEG", quality=95), RAMP, "colour is converted to grey"),
    "palette": (encoded(ramp("P"), "PNG"), RAMP, ""),
    "1 bit": (one_bit(), RAMP // 128 * 255, ""),
    "cut off": (encoded(ramp("L"), "PNG")[:-1], InputError, "truncated"),
    "cut off in a BMP": (encoded(ramp("L"), "BMP")[:-1], InputError, "damaged"),
    "zero wide": (png(0, 8, PLAIN), InputError, "damaged|not an image"),
    "zero BMP": (bmp(0, 0), InputError, "damaged|not an image"),
    "negative BMP": (bmp(-8, 8), LimitError, "pixels"),
    "GIF": (encoded(ramp("L"), "GIF"), RAMP, ""),
    "TIFF": (encoded(ramp("L"), "TIFF"), RAMP, ""),
    "TIFF of floats": (encoded(ramp("F"), "TIFF"), InputError, "float pixels"),
    "ICO": (encoded(ramp("L"), "ICO"), InputError, "not an image"),
    "zeros and ones": (encoded(ramp("L").point(lambda v: v // 128), "PNG"), RAMP // 128 * 255,
                       "0 and 1 are read as black and white"),
    "nothing": (b"", InputError, "not an image"),
    "text": (b"hello", InputError, "not an image"),
    "wrong checksum": (wrong_checksum(), InputError, "damaged"),
    "one pixel more than the limit": (png(16_000_001, 1, PLAIN), LimitError, "16000001 pixels"),
    "PNG bomb": (png(30_000, 30_000, zeros(64 << 20)), LimitError, "pixels"),
    "PNG, 4 billion wide": (png(2**31 - 1, 2**31 - 1, PLAIN), LimitError, "pixels"),
    "WebP bomb": (webp(16_383, 16_383), LimitError, "pixels"),
    "BMP bomb": (bmp(100_000, 100_000), LimitError, "pixels"),
    "JPEG bomb": (jpeg(65_500, 65_500), LimitError, "pixels"),
    "JPEG of six scans, nearly": (
        encoded(ramp("L"), "JPEG", quality=95, progressive=True), RAMP, ""
    ),
    "JPEG of 70 scans": (scans(70), LimitError, "a JPEG of over 64 scans. Save it again"),
    "JPEG of 70 scans between padding": (
        scans(70, b"\0\0\xff\xff"), LimitError, "a JPEG of over 64 scans"
    ),
    "JPEG with scans in its comment, nearly": (commented(b"\xff\xda\0\2" * 100), RAMP, ""),
    "pixels that never end": (png(8, 8, zeros(256 << 20)), np.zeros((8, 8)), ""),
    "text bomb": (
        png(8, 8, zeros(1 << 20), chunk(b"zTXt", b"a\0\0" + zeros(256 << 20))),
        InputError, "damaged",
    ),
    "profile bomb": (
        png(8, 8, zeros(1 << 20), chunk(b"iCCP", b"a\0\0" + zeros(256 << 20))),
        InputError, "damaged",
    ),
}  # fmt: skip


def read(path: Path) -> NDArray[Any]:
    return read_images((str(path),), GREY).images


@pytest.mark.parametrize("name", CASES)
def test_a_named_case(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, expected, words = CASES[name]
    path = tmp_path / "picture.gif"  # the content decides the format
    path.write_bytes(raw)
    before, began = memory(), time.perf_counter()
    if isinstance(expected, type):
        with pytest.raises(expected, match=words) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
    else:
        found = read(path)[0, 0].astype(float)
        assert np.abs(found - expected).max() <= (6 if "nearly" in name or name == "CMYK" else 1)
        said = capsys.readouterr().err
        assert words in said
        assert bool(said) == bool(words)
    assert memory() - before < 150
    assert time.perf_counter() - began < 5


def memory() -> int:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def damaged(raw: bytes, chance: random.Random) -> bytes:
    """Change one to six bytes or bits, remove or double some, or truncate the file."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        way = chance.random()
        if way < 0.4:
            data[at] ^= 1 << chance.randrange(8)
        elif way < 0.8:
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif way < 0.9:
            del data[at : at + chance.randint(1, 8)]
            data = data or bytearray(b"\0")
        else:
            data[at:at] = data[at : at + 16]
    return bytes(data[: chance.randrange(len(data))] if chance.random() < 0.1 else data)


def hunt(count: int, tmp_path: Path) -> Counter[str]:
    chance, sources, path = random.Random(0), sound(), tmp_path / "m.png"
    for raw in sources:  # the files are valid before they are damaged
        path.write_bytes(raw)
        assert read(path).shape == (1, 1, 8, 8)
    before, tally = memory(), Counter[str]()
    for index in range(count):
        path.write_bytes(damaged(sources[index % len(sources)], chance))
        try:
            assert read(path).shape == (1, 1, 8, 8)
            tally["read"] += 1
        except VaeError as error:
            tally[type(error).__name__ + " in many lines" * ("\n" in str(error))] += 1
    grown = memory() - before
    print(f"\n{count} damaged images: {dict(tally)}, memory grew by {grown} MB")
    assert grown < 200
    return tally


def test_damaged_images_are_read_or_refused(tmp_path: Path) -> None:
    assert set(hunt(600, tmp_path)) <= {"read", "InputError", "LimitError"}


@pytest.mark.slow
def test_six_thousand_damaged_images(tmp_path: Path) -> None:
    assert set(hunt(6_000, tmp_path)) <= {"read", "InputError", "LimitError"}
