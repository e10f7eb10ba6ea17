"""Image files built byte by byte: valid files of every kind, and wrong or huge headers."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RAMP = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def ramp(mode: str) -> Image.Image:
    """8×8 pixels from dark to bright, in any mode."""
    return Image.fromarray(RAMP).convert(mode)


def chunk(name: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + crc


def png(width: int, height: int, data: bytes, extra: bytes = b"", depth: int = 8) -> bytes:
    """A grey PNG with this header."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0))
    return SIGNATURE + head + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """`size` zero bytes, deflated a thousandfold."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    # In the Adler-32 of n zeros, the low half stays 1 and the high half counts them.
    check = struct.pack(">HH", size % 65_521, 1)
    return b"\x78\xda" + block * (size >> 20) + b"\x03\0" + check


def webp(width: int, height: int) -> bytes:
    """An animated WebP with this canvas size and one frame of 4×4."""
    inner = encoded(Image.new("RGB", (4, 4)), "WEBP", lossless=True)[12:]

    def three(n: int) -> bytes:
        return struct.pack("<I", n)[:3]

    frame = bytes(6) + three(3) + three(3) + b"\x64\0\0\0" + inner
    body = (
        b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + three(width - 1) + three(height - 1)
    )
    body += b"ANIM" + struct.pack("<I", 6) + bytes(6) + b"ANMF" + struct.pack("<I", len(frame))
    return b"RIFF" + struct.pack("<I", len(body + frame)) + body + frame


def bmp(width: int, height: int) -> bytes:
    """A BMP whose header states this size, with 64 bytes after it."""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + head + bytes(64)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG of 8×8 whose header states this size."""
    raw = encoded(ramp("L"), "JPEG")
    at = raw.index(b"\xff\xc0") + 5
    return raw[:at] + struct.pack(">HH", height, width) + raw[at + 4 :]


def tagged(orientation: int) -> bytes:
    """A PNG with this orientation in its EXIF data."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(ramp("L"), "PNG", exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.new("L", (8, 8), level).convert("RGB") for level in (0, 128, 255)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


def sound() -> list[bytes]:
    """Valid files of every kind and mode."""
    modes = {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "BMP": ("1", "L", "P", "RGB"),
             "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA"), "GIF": ("L", "P"),
             "TIFF": ("1", "L", "RGB", "RGBA", "I;16"), "PPM": ("L", "RGB")}  # fmt: skip
    found = [encoded(ramp(mode), kind) for kind, of in modes.items() for mode in of]
    found += [encoded(ramp("RGB"), "JPEG", progressive=True), tagged(6)]
    return [*found, animated("WEBP"), animated("PNG")]
