"""Images to files in the format that the target asks for, a chunk at a time where it can be."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..console import pluralize
from ..errors import InputError
from ..files.atomic import writing_many
from ..images import encode_animation, encode_image, grid, grid_columns, to_uint8
from .target import FOLDER, PICTURES, TABLES, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

ANIMATIONS = (".gif", ".webp")
IMAGES = (*PICTURES, *TABLES, FOLDER)
_COMFORTABLE = 500  # pixels; what a grid is enlarged to


class Column(NamedTuple):
    """An array of n rows that is made chunk by chunk: `chunks()` may be called again."""

    shape: tuple[int, ...]
    dtype: Any
    chunks: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Column:
        """An array that is already there."""
        return cls(array.shape, array.dtype, lambda: [array])

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of an `.npy` file, a chunk's own memory where it needs no conversion."""
        header = io.BytesIO()
        np.lib.format.write_array_header_2_0(
            header,
            {
                "descr": np.lib.format.dtype_to_descr(np.dtype(self.dtype)),
                "fortran_order": False,
                "shape": self.shape,
            },
        )
        yield header.getvalue()
        for chunk in self.chunks():
            yield np.ascontiguousarray(chunk, self.dtype).reshape(-1).view(np.uint8).data


def write_images(
    images: Column, target: Target, extra: dict[str, Column] | None = None, columns: int = 0
) -> str:
    """Write images [N, C, H, W] as the target asks.

    A picture is a grid; `.npy` and `.npz` keep the numbers (`.npz` the `extra` arrays too); `.csv`
    has a line of pixel values (0 to 255) an image; a folder gets a PNG an image. Only pictures need
    all images in memory.

    Args:
        images: f32 in [0, 1], or u8.
        target: the checked options.
        extra: further arrays for `.npz`.
        columns: of a grid, where --columns is not given; 0 makes it square.

    Returns:
        What was written, in words.

    Raises:
        InputError: a picture of no images.
        LimitError: a picture of more pixels than a viewer opens.
    """
    n = images.shape[0]
    if not n and (target.show or target.kind in PICTURES):
        raise InputError("no latents to draw a picture of, expected at least one")
    words = f"{pluralize(n, 'image')} to {target.out}"
    columns = target.columns or columns or grid_columns(n)
    drawn = target.out is not None and target.kind in PICTURES
    if target.show or drawn:
        scale = target.scale or _scale(images.shape, min(columns, n))
        height, width = ((side + 2) * scale for side in images.shape[2:])
        target.check_pixels(n, height, width)
        whole = np.concatenate(list(images.chunks()))
        target.draw(whole, columns)
        images = Column.of(whole)
        if drawn:
            target.put([encode_image(grid(whole, columns), target.kind, scale)])
            return words
    if target.out is None:
        return pluralize(n, "image")
    if target.kind == FOLDER:
        write_folder(images, Path(target.out), target.scale or 1)
        words += "/"
    else:
        write_table(images, target, extra or {})
    return words


def write_table(
    main: Column, target: Target, extra: dict[str, Column], name: str = "images"
) -> None:
    """Write an array, with `extra` ones beside it in an `.npz`: numbers, not pictures."""
    if target.kind == ".npy":
        target.put(main.pieces())
    elif target.kind == ".npz":
        target.put(_zipped({name: main, **extra}))
    else:
        target.put(_lines(main))


def write_folder(images: Column, folder: Path, scale: int) -> None:
    """One PNG an image, numbered, in a folder that is made if need be."""
    folder.mkdir(exist_ok=True)
    digits = max(3, len(str(images.shape[0] - 1)))
    with writing_many(folder) as put:
        pictures = (image for chunk in images.chunks() for image in chunk)
        for number, image in enumerate(pictures):
            put(f"{number:0{digits}d}.png", encode_image(image, ".png", scale))


def write_frames(frames: list[NDArray[Any]], target: Target) -> None:
    """An animation of frames [C, H, W] that plays to and fro.

    Raises:
        LimitError: more pixels in all frames together than a picture may have.
    """
    scale = target.scale or max(1, _COMFORTABLE // max(frames[0].shape[1:]) // 2)
    height, width = (side * scale for side in frames[0].shape[1:])
    target.check_pixels(len(frames), height, width)
    target.put([encode_animation(frames, target.kind, scale=scale)])


def _scale(shape: tuple[int, ...], columns: int) -> int:
    return 1 if shape[0] == 1 else max(1, int(_COMFORTABLE // (columns * (shape[3] + 2))))


def _lines(column: Column) -> Iterator[bytes]:
    """A line of comma-separated numbers a row; images as bytes, 0 to 255."""
    pictures = len(column.shape) == 4
    for chunk in column.chunks():
        rows = (to_uint8(chunk) if pictures else chunk).reshape(len(chunk), -1)
        for row in rows:
            # NumPy's own str of a float32 is the shortest that reads back as the same number.
            yield (
                ",".join(map(str, row if row.dtype.kind == "f" else row.tolist())) + "\n"
            ).encode()


class _Pipe(io.RawIOBase):
    """Something to write to, emptied as it fills: a zip need never stand in memory whole."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        whole, self.pieces = b"".join(self.pieces), []
        return whole


def _zipped(columns: dict[str, Column]) -> Iterator[bytes]:
    """The bytes of an `.npz`, stored, as they come; the same arrays give the same bytes."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as member:
                for piece in column.pieces():
                    member.write(piece)
                    yield pipe.take()
    yield pipe.take()
