"""Draw images as grids with labels, and save them; for notebooks and for the command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import as_array
from .errors import FileError, InputError, UsageError, describe_os_error, printable
from .files.atomic import write_atomic, writing_many
from .images import encode_animation, encode_image, encode_pil, to_pil, to_uint8

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

GAP = 2  # black pixels between the images of a grid
_MAX_SCALE, _IMAGE_SIZE, _GRID_SIZE = 8, 256, 1200  # limits of `grid_scale`; sizes in pixels
_MAX_LABEL = 24  # characters
_FONT_SIZES = 11, 20  # pixels, smallest and largest
_PADDING = 6  # pixels beside a label
# The colour of labels, by mode.
_INK: dict[str, Any] = {
    "L": 200, "LA": (200, 255), "RGB": (200, 200, 200), "RGBA": (200, 200, 200, 255)
}  # fmt: skip


def grid(
    images: ArrayLike,
    labels: Sequence[object] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
) -> Image.Image:
    """Draw images as a grid: a Pillow image, which a notebook shows.

    Args:
        images: u8, or floats in [0, 1], as N×C×H×W, N×H×W×C, N×H×W, C×H×W, H×W×C or H×W.
        labels: one per image, drawn below it. A label that a whole row shares is drawn once, to the
            left of the row, unless the row is lower than a line of text.
        columns: images per row; by default, the grid is nearly square.
        scale: output pixels per image pixel; by default, small images are enlarged up to 8 times.

    Raises:
        InputError: the images have another shape, or values outside [0, 1].
        UsageError: there are no images, or the number of labels differs from that of the images.
    """
    pixels = _as_pixels(images)
    columns = min(columns or grid_columns(len(pixels)), max(1, len(pixels)))
    sheet = tile(pixels, columns)
    scale = scale or grid_scale(pixels.shape, columns)
    if labels is None:
        return to_pil(sheet, scale)
    names = [str(label) for label in labels]
    if len(names) != len(pixels):
        raise UsageError(f"{len(names)} labels for {len(pixels)} images, expected one per image")
    rows = [names[first : first + columns] for first in range(0, len(names), columns)]
    if all(len(set(row)) == 1 for row in rows):
        if pixels.shape[2] * scale < _FONT_SIZES[0]:
            return to_pil(sheet, scale)
        return _with_row_labels(to_pil(sheet, scale), [row[0] for row in rows])
    return _with_captions(pixels, names, columns, scale)


def save(
    images: ArrayLike,
    path: str | Path,
    labels: Sequence[object] | None = None,
    *,
    columns: int | None = None,
    scale: int | None = None,
    ms: int = 80,
) -> None:
    """Save images as one picture, an animation, or one file per image; the name decides.

    Args:
        images: as for `grid`.
        path: `.png`, `.jpg`, `.webp` or `.bmp` for a grid, `.gif` for an animation, or a name
            without an extension for a folder of numbered PNG files.
        labels: as for `grid`; animations and folders do not show them.
        columns: as for `grid`.
        scale: as for `grid`; the files of a folder are not enlarged by default.
        ms: duration of each frame of an animation in milliseconds.

    Raises:
        UsageError: the extension is unknown; see also `grid`.
        FileError: the file cannot be written.
    """
    if not isinstance(path, str | Path):
        raise UsageError(f"path is a {type(path).__name__}, expected text: save(images, path)")
    path = Path(path)
    pixels, extension = _as_pixels(images), path.suffix.lower()
    if not extension:
        save_folder(pixels, len(pixels), path, scale or 1)
    elif extension == ".gif":
        scale = scale or grid_scale(pixels.shape, 1)
        write_atomic(path, encode_animation(list(pixels), ".gif", scale=scale, ms=ms))
    else:
        picture = grid(pixels, labels, columns=columns, scale=scale)
        write_atomic(path, encode_pil(picture, extension))


def save_folder(images: Iterable[NDArray[Any]], n: int, folder: Path, scale: int = 1) -> None:
    """Save n images as numbered PNG files in a folder, which is created if it is missing.

    Args:
        images: u8, or f32 in [0, 1], each [C, H, W].
        n: their number.
        folder: the folder.
        scale: output pixels per image pixel.

    Raises:
        FileError: a file cannot be written.
    """
    _make_folder(folder)
    with writing_many(folder) as put:
        for number, image in enumerate(images):
            put(file_name(number, n), encode_image(image, ".png", scale))


def file_name(number: int, total: int) -> str:
    """Return the name of one of `total` PNG files in a folder, such as `007.png`."""
    return f"{number:0{max(3, len(str(total - 1)))}d}.png"


def grid_scale(shape: tuple[int, ...], columns: int) -> int:
    """Return how many times to enlarge a grid of images [N, C, H, W] so that people can see it.

    Each image becomes at most 256 pixels high and wide, and the whole grid 1,200 pixels.
    """
    n, _, h, w = shape
    rows = -(-n // columns)
    sides = rows * (h + GAP), columns * (w + GAP)
    return max(1, min(_MAX_SCALE, _IMAGE_SIZE // max(h, w), _GRID_SIZE // max(sides)))


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error


def _as_pixels(images: ArrayLike) -> NDArray[np.uint8]:
    """Check images of any size and return them as u8[N, C, H, W]."""
    array = as_array(images, "images")
    if array.dtype.kind == "f":
        floats = array.astype(np.float32)
        if array.size and not (floats.min() >= 0 and floats.max() <= 1):  # false for NaN too
            raise InputError(
                f"images: values run from {floats.min():g} to {floats.max():g}, expected [0, 1]"
            )
        array = to_uint8(floats)
    if array.dtype != np.uint8:
        raise InputError(f"images: {array.dtype}, expected uint8 or floats in [0, 1]")
    channels = (1, 2, 3, 4)
    if array.ndim == 2 or (array.ndim == 3 and not {*array.shape[::2]} & {*channels}):
        array = array[..., None, :, :]  # H×W or N×H×W
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[1] not in channels:
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in channels:
        raise InputError(f"images: shape {list(array.shape)}, expected [N, C, H, W] or similar")
    return np.ascontiguousarray(array).view(np.uint8)


def _with_row_labels(sheet: Image.Image, names: list[str]) -> Image.Image:
    """Add a column of labels to the left of a sheet, one per row."""
    from PIL import Image, ImageDraw

    height = sheet.height / len(names)
    font, names = _font(height / 4), [_short(name) for name in names]
    margin = round(max(font.getlength(name) for name in names)) + 2 * _PADDING
    whole = Image.new(sheet.mode, (sheet.width + margin, sheet.height))
    whole.paste(sheet, (margin, 0))
    draw = ImageDraw.Draw(whole)
    for row, name in enumerate(names):
        place = margin - _PADDING, (row + 0.5) * height
        draw.text(place, name, fill=_INK[sheet.mode], font=font, anchor="rm")
    return whole


def _with_captions(
    pixels: NDArray[np.uint8], names: list[str], columns: int, scale: int
) -> Image.Image:
    """Draw a grid with a caption below each image."""
    from PIL import Image, ImageDraw

    _, _, h, w = pixels.shape
    font = _font(h * scale / 6)
    line = round(font.size * 1.4)
    width, height = (w + GAP) * scale, h * scale + line + GAP * scale
    rows = -(-len(pixels) // columns)
    first = to_pil(pixels[0], scale)
    whole = Image.new(first.mode, (columns * width - GAP * scale, rows * height - GAP * scale))
    draw = ImageDraw.Draw(whole)
    for i, (image, name) in enumerate(zip(pixels, names, strict=True)):
        x, y = i % columns * width, i // columns * height
        whole.paste(to_pil(image, scale), (x, y))
        while len(name) > 1 and font.getlength(_short(name)) > w * scale:
            name = name[:-2] + "…" if name.endswith("…") else name[:-1] + "…"
        place = x + w * scale / 2, y + h * scale + line / 2
        draw.text(place, _short(name), fill=_INK[first.mode], font=font, anchor="mm")
    return whole


def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(max(_FONT_SIZES[0], min(_FONT_SIZES[1], size)))


def _short(name: str) -> str:
    return printable(name if len(name) <= _MAX_LABEL else name[: _MAX_LABEL - 1] + "…")


def tile(images: NDArray[np.generic], columns: int, gap: int = GAP) -> NDArray[np.uint8]:
    """Arrange images [N, C, H, W] in a grid, row by row.

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


def grid_columns(n: int) -> int:
    """Return the number of columns that makes a grid of n images closest to square."""
    return max(1, int(np.ceil(np.sqrt(n))))


def interleave(layers: list[NDArray[Any]], columns: int) -> tuple[NDArray[Any], int]:
    """Interleave sets of images [N, C, H, W] for a grid whose rows alternate between the sets.

    Returns:
        The images in grid order, padded with black ones, and the number of columns.
    """
    n, shape = len(layers[0]), layers[0].shape[1:]
    columns = min(columns, n)
    rows = -(-n // columns)
    cells = np.zeros((rows, len(layers), columns, *shape), np.float32)
    for k, images in enumerate(layers):
        padded = np.zeros((rows * columns, *shape), np.float32)
        padded[:n] = images
        cells[:, k] = padded.reshape(rows, columns, *shape)
    return cells.reshape(-1, *shape), columns
