"""Read and write image files and animations; pixels are u8[C, H, W].

The content of a file, not its name, decides its format. Truncated files are refused.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, LimitError, UsageError
from .files.reading import read_bytes

if TYPE_CHECKING:
    from PIL import Image


EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm"
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MAX_PIXELS = 16_000_000
MAX_PHOTO_PIXELS = 128_000_000  # of a user's own file that is to be made smaller
MAX_BYTES = 256 << 20  # bytes per file, more than an image of MAX_PIXELS needs in any format
_KINDS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"
}  # fmt: skip
_ANIMATED = (".gif", ".webp", ".png")
_QUALITY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}
_PNG_END = b"IEND\xaeB`\x82"  # Pillow accepts a file without it if all pixels are present
_OPAQUE = ("JPEG", "BMP")  # formats without alpha
_MAX_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "GIF": 65_535}  # pixels, by format
_MAX_SCANS = 64  # per JPEG; encoders write about ten, and a scan of MAX_PIXELS takes 0.07 s
# 0xFF and a marker, except padding, stuffed bytes, and markers that have no content.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
# Exceptions that Pillow's readers raise on damaged files.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, OverflowError,
            struct.error, zlib.error)  # fmt: skip


def is_image(path: Path) -> bool:
    """Return whether a file has an image extension and is not hidden (macOS's `._NAME` is)."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


@dataclass(frozen=True, eq=False)
class Decoded:
    """One decoded image file.

    Attributes:
        pixels: u8[C, H, W], over black where the image is transparent; or with alpha.
        alpha: u8[H, W], the opacity; None if every pixel is opaque.
        changes: one line for each change that loses information, such as "only the first frame is
            read".
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    changes: tuple[str, ...] = ()


def read_image(
    source: str | Path | bytes,
    *,
    mode: str | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
    log: Callable[[str], None] = lambda line: None,
) -> NDArray[np.uint8]:
    """Decode one image file and place transparent parts over black or white; see `compose`.

    For the arguments and errors, see `decode_image`; `log` receives each change as a line.

    Returns:
        u8[C, H, W].
    """
    pixels, changes = compose([decode_image(source, mode=mode, size=size, max_pixels=max_pixels)])
    for change in changes:
        log(change)
    return pixels[0]


def decode_image(
    source: str | Path | bytes,
    *,
    mode: str | None = None,
    size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Decoded:
    """Decode one image file.

    Applies the EXIF orientation, scales 16-bit grey to 8 bits, and scales a grey image of zeros and
    ones, as masks are often stored, to black and white.

    Args:
        source: the path of a file, or its bytes.
        mode: convert to `L`, `LA`, `RGB` or `RGBA`; None keeps grey images grey and converts
            others to RGB. Only a mode with alpha keeps the opacity.
        size: (H, W) to resize to, with a Lanczos filter. A larger JPEG is decoded at a reduced
            scale.
        max_pixels: the largest number of pixels in the file.

    Raises:
        NotFound: the file does not exist.
        FileError: the file cannot be read.
        InputError: the file is damaged or is not in one of `FORMATS`.
        LimitError: the image has more than `max_pixels` pixels, or a JPEG more than 64 scans.
    """
    name = "image" if isinstance(source, bytes) else source
    raw = source if isinstance(source, bytes) else read_bytes(Path(source), max_bytes=MAX_BYTES)
    image, alpha, changes = _open(raw, name, size, max_pixels, mode)
    if image.mode == "L" and image.getextrema()[1] == 1:
        image = image.point(lambda level: level * 255)
        changes.append("pixels of 0 and 1 are read as black and white")
    if mode and image.mode != mode:
        changes += ["colour is converted to grey"] if mode == "L" else []
        image = image.convert(mode)
    pixels = _to_array(image, size)
    return Decoded(pixels, None if alpha is None else _to_array(alpha, size)[0], tuple(changes))


def compose(images: Sequence[Decoded]) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Place the transparent parts of all images over one background: the opposite of their ink.

    The background is white if the mean level of the opaque parts is below one half, else black.

    Returns:
        The pixels u8[C, H, W] of each image, and one line for each kind of change, which begins
        with the number of images that it concerns unless these are all.
    """
    counts = Counter(change for image in images for change in image.changes)
    clear = [
        (image.pixels.mean(axis=0), image.alpha) for image in images if image.alpha is not None
    ]
    white = False
    if clear:
        ink = sum(float(levels.sum()) for levels, _ in clear)
        white = ink < 0.5 * sum(float(alpha.sum()) for _, alpha in clear)
        line = f"transparent parts are placed over {'white' if white else 'black'}"
        counts[line] = len(clear)
    pixels = [_over_white(image) if white else image.pixels for image in images]
    lines = [line if n == len(images) else f"{n:,} of them: {line}" for line, n in counts.items()]
    return pixels, lines


def _over_white(image: Decoded) -> NDArray[np.uint8]:
    if image.alpha is None:
        return image.pixels
    # Resizing rings, so that the sum may exceed 255.
    levels = image.pixels.astype(np.uint16) + (255 - image.alpha)
    pixels: NDArray[np.uint8] = np.minimum(levels, 255).astype(np.uint8)
    return pixels


def _to_array(image: Image.Image, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """Convert to u8[C, H, W], resized to `size`."""
    from PIL import Image

    if size and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.array(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _open(
    raw: bytes,
    name: object,
    size: tuple[int, int] | None,
    max_pixels: int,
    mode: str | None,
) -> tuple[Image.Image, Image.Image | None, list[str]]:
    """Decode the first frame, upright: its colours, its opacity, and a line for what is lost."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        # Pillow's warnings are ignored: whatever changes the pixels is refused or logged here.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(raw), formats=FORMATS) as image,
        ):
            if image.width * image.height > max_pixels:
                shape = f"{image.height}x{image.width}"
                raise LimitError(f"{name}: {shape} pixels, limit {max_pixels}. Make it smaller.")
            if image.format in ("JPEG", "MPO") and _scans(raw) > _MAX_SCANS:
                raise LimitError(f"{name}: a JPEG of over {_MAX_SCANS} scans. Save it again.")
            if image.format == "PNG" and _PNG_END not in raw:
                raise InputError(f"{name}: truncated: the end of the PNG is missing")
            frames = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
            if size:  # a JPEG is decoded at 1/2, 1/4 or 1/8, but at least at twice the size
                image.draft(None, (2 * max(size), 2 * max(size)))
            changes = ["only the first frame is read"] if frames else []
            return *_flatten(ImageOps.exif_transpose(image), name, mode), changes
    except Image.DecompressionBombError as error:
        raise LimitError(f"{name}: more than {max_pixels} pixels. Make it smaller.") from error
    except (InputError, LimitError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image. Expected {', '.join(FORMATS)}") from error
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged or unreadable image") from error


def _scans(raw: bytes) -> int:
    """Count the scans of a JPEG: each goes over all pixels, even if it holds no data."""
    at = scans = 0
    while found := _JPEG_MARKER.search(raw, at):
        marker, at = raw[found.end() - 1], found.end()
        if marker == _JPEG_END:
            break
        scans += marker == _JPEG_SCAN
        # A scan's compressed data, after its header, contains no markers but restarts.
        at += int.from_bytes(raw[at : at + 2])
    return scans


def _flatten(
    image: Image.Image, name: object, mode: str | None
) -> tuple[Image.Image, Image.Image | None]:
    """Convert to `L` or `RGB` over black, and return the opacity if any part is transparent.

    If `mode` has alpha, convert to it instead.
    """
    from PIL import Image

    if image.mode == "F":
        raise InputError(f"{name}: float pixels, whose range is unknown. Save 8 or 16 bits.")
    if image.mode.startswith("I"):
        wide = np.clip(np.asarray(image.convert("I"), np.int64), 0, 65535)
        image = Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if mode in ("LA", "RGBA"):
        return image.convert("RGBA").convert(mode), None
    grey = image.mode in ("1", "L", "LA", "La")
    if image.mode == "P":  # the only mode of a GIF
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        grey = bool((palette == palette[:, :1]).all())
    alpha = None
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        clear = image.convert("RGBA")
        if clear.getchannel("A").getextrema() != (255, 255):
            alpha = clear.getchannel("A")
        image = _over_black(clear)
    mode = "L" if grey else "RGB"
    return (image if image.mode == mode else image.convert(mode)), alpha


def _over_black(image: Image.Image) -> Image.Image:
    """Blend an image with alpha over black, for formats and models without alpha."""
    from PIL import Image

    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image.convert("RGBA")).convert("RGB")


def undo_enlargement(image: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Undo an exact enlargement to (C, H, W), such as that of a sample; keep other images."""
    (_, h, w), (_, height, width) = shape, image.shape
    k = height // h
    if k < 2 or (height, width) != (k * h, k * w):
        return image
    small = image[:, ::k, ::k]
    return small if np.array_equal(image, small.repeat(k, 1).repeat(k, 2)) else image


def to_uint8(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Round f32 in [0, 1] to the nearest of 256 levels; return u8 unchanged."""
    if images.dtype == np.uint8:
        return images.view(np.uint8)
    levels = np.rint(np.clip(images.astype(np.float32, copy=False), 0, 1) * np.float32(255))
    pixels: NDArray[np.uint8] = levels.astype(np.uint8)
    return pixels


def to_pil(image: NDArray[np.generic], scale: int = 1) -> Image.Image:
    """Convert [C, H, W] to a Pillow image; each pixel becomes a square of `scale` pixels."""
    from PIL import Image

    pixels = to_uint8(image)
    if scale > 1:
        pixels = pixels.repeat(scale, 1).repeat(scale, 2)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def encode_image(image: NDArray[np.generic], extension: str = ".png", scale: int = 1) -> bytes:
    """Encode one image in the format that `extension` names.

    Raises:
        UsageError: the extension is unknown.
        LimitError: the image is too large for the format.
    """
    return encode_pil(to_pil(image, scale), extension)


def encode_pil(image: Image.Image, extension: str, **options: Any) -> bytes:
    """Encode a Pillow image; `options` are those of Pillow's `save`. See `encode_image`."""
    extension = extension.lower()
    if extension not in _KINDS:
        raise UsageError(f"{extension}: not an image type. Expected {', '.join(_KINDS)}")
    kind, longest = _KINDS[extension], max(image.size)
    if longest > _MAX_SIDE.get(kind, longest):
        raise LimitError(f"{kind}: {longest} pixels on a side, limit {_MAX_SIDE[kind]}. Use .png")
    if kind in _OPAQUE and "A" in image.getbands():
        image = _over_black(image)
    buffer = _NamedBuffer()
    # Given a file name instead of a format, Pillow imports only the plugin that it needs.
    buffer.name = f"image{extension}"
    image.save(buffer, **_QUALITY.get(kind, {}), **options)
    return buffer.getvalue()


class _NamedBuffer(io.BytesIO):
    """Bytes in memory with a file name."""

    name = ""


def encode_animation(
    frames: Sequence[NDArray[np.generic]], extension: str = ".gif", *, scale: int = 1, ms: int = 80
) -> bytes:
    """Encode frames as an endless animation that plays forwards, then backwards.

    Args:
        frames: images [C, H, W] of the same size.
        extension: `.gif`, `.webp` or `.png` (APNG).
        scale: output pixels per image pixel.
        ms: duration of each frame in milliseconds.

    Raises:
        UsageError: there are no frames, or the format does not support animation.
        LimitError: the frames are too large for the format.
    """
    if extension.lower() not in _ANIMATED:
        raise UsageError(f"{extension}: cannot hold an animation. Expected {', '.join(_ANIMATED)}")
    if not len(frames):
        raise UsageError("an animation needs at least one frame")
    first, *rest = [to_pil(frame, scale) for frame in [*frames, *frames[-2:0:-1]]]
    return encode_pil(first, extension, save_all=True, append_images=rest, duration=ms, loop=0)
