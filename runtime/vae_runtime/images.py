"""Image files to arrays and back, grids and animations. Pixels are u8, planes first.

Files are recognised by their content, not by their name; what does not decode whole is refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, LimitError, NotFound, UsageError
from .files import write_atomic

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
MAX_PIXELS = 16_000_000
_ANIMATED = {".gif": "GIF", ".webp": "WEBP", ".png": "PNG"}


def read_image(
    source: Path | bytes, *, mode: str | None = None, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Decode one image file.

    Orientation from EXIF is applied, transparency is laid over black, 16-bit grey is scaled.

    Args:
        source: a path, or the bytes of a file.
        mode: `L` or `RGB` to convert to; None keeps grey grey and makes all else RGB.
        size: (H, W) to resize to, with a Lanczos filter.

    Returns:
        u8[C, H, W].

    Raises:
        NotFound: no such file.
        InputError: not a PNG, JPEG, WebP or BMP, or a damaged one.
        LimitError: more than 16 million pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    name = source if isinstance(source, Path) else "image"
    try:
        raw = source.read_bytes() if isinstance(source, Path) else source
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LimitError(
                    f"{name}: {image.width}×{image.height} pixels, limit {MAX_PIXELS}. Resize it."
                )
            image.load()
            picture = _flatten(ImageOps.exif_transpose(image), mode)
    except FileNotFoundError as error:
        raise NotFound(f"{name}: no such file") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image. Expected {', '.join(FORMATS)}") from error
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: damaged or unreadable image") from error
    if size and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _flatten(image: Image.Image, mode: str | None) -> Image.Image:
    """To `L` or `RGB`: 16-bit values scaled, palettes looked up, transparency over black."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image.convert("I"), np.int64)
        image = Image.fromarray((np.clip(wide, 0, 65535) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        opaque = image.convert("RGBA")
        black = Image.new("RGBA", opaque.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, opaque).convert(
            "L" if image.mode in ("LA", "La") else "RGB"
        )
    if mode is None:
        mode = "L" if image.mode in ("1", "L") else "RGB"
    return image if image.mode == mode else image.convert(mode)


def to_uint8(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """f32 in [0, 1] to u8: the nearest of 256 levels; bytes pass through."""
    if images.dtype == np.uint8:
        return images.view(np.uint8)
    return np.rint(np.clip(images, 0, 1) * np.float32(255)).astype(np.uint8)


def grid(images: NDArray[np.generic], columns: int, gap: int = 2) -> NDArray[np.uint8]:
    """Lay images N×C×H×W out row by row.

    Returns:
        u8[C, rows·(H + gap) - gap, columns·(W + gap) - gap]; empty cells and gaps are black.
    """
    pixels = to_uint8(images)
    n, c, h, w = pixels.shape
    if n == 0 or columns < 1:
        raise UsageError(f"a grid needs at least one image and one column, got {n} and {columns}")
    columns = min(columns, n)
    rows = -(-n // columns)
    cells = np.zeros((rows * columns, c, h + gap, w + gap), np.uint8)
    cells[:n, :, :h, :w] = pixels
    sheet = cells.reshape(rows, columns, c, h + gap, w + gap).transpose(2, 0, 3, 1, 4)
    whole = sheet.reshape(c, rows * (h + gap), columns * (w + gap))
    return np.ascontiguousarray(whole[:, : rows * (h + gap) - gap, : columns * (w + gap) - gap])


def to_pil(image: NDArray[np.generic], scale: int = 1) -> Image.Image:
    """C×H×W to a Pillow image, each pixel drawn as a square of `scale` pixels."""
    from PIL import Image

    pixels = to_uint8(image).repeat(scale, 1).repeat(scale, 2)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def encode_image(image: NDArray[np.generic], extension: str = ".png", scale: int = 1) -> bytes:
    """One image as the bytes of a file of the type that `extension` names."""
    from PIL import Image

    kind = Image.registered_extensions().get(extension.lower())
    if kind not in (*FORMATS, "GIF"):
        raise UsageError(
            f"{extension}: not an image type. Expected {', '.join(EXTENSIONS)} or .gif"
        )
    buffer = io.BytesIO()
    to_pil(image, scale).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def encode_animation(
    frames: Sequence[NDArray[np.generic]], extension: str = ".gif", *, scale: int = 1, ms: int = 80
) -> bytes:
    """Frames C×H×W as an animation that plays forwards and back, for ever.

    Args:
        frames: the pictures, all of one size.
        extension: `.gif`, `.webp` or `.png` (APNG).
        scale: pixels a pixel.
        ms: how long each frame stands, in milliseconds.
    """
    if extension not in _ANIMATED or not len(frames):
        raise UsageError(f"{extension}: cannot hold an animation. Expected .gif, .webp or .png")
    pictures = [to_pil(frame, scale) for frame in [*frames, *frames[-2:0:-1]]]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        _ANIMATED[extension],
        save_all=True,
        append_images=pictures[1:],
        duration=ms,
        loop=0,
        lossless=True,
    )
    return buffer.getvalue()


def write_images(
    images: NDArray[np.generic], target: Path, *, columns: int | None = None, scale: int = 1
) -> list[Path]:
    """Write a grid to a file, or one PNG an image where `target` is a folder or has no extension.

    Returns:
        The files written.
    """
    if target.suffix and not target.is_dir():
        sheet = grid(images, columns or grid_columns(len(images)))
        write_atomic(target, encode_image(sheet, target.suffix, scale))
        return [target]
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / f"{i:0{max(3, len(str(len(images) - 1)))}d}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        write_atomic(path, encode_image(image, ".png", scale))
    return paths


def grid_columns(n: int) -> int:
    """The columns of the squarest grid for n images."""
    return max(1, int(np.ceil(np.sqrt(n))))
