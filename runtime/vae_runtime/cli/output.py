"""Write images and arrays, batch by batch, in the format that the output options select."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from ..console import pluralize, print_json, print_status, write_stdout
from ..errors import InputError, LimitError
from ..files.atomic import write_large, writing
from ..grids import (
    GAP,
    file_name,
    grid,
    grid_columns,
    grid_scale,
    interleave,
    save_folder,
    tile,
)
from ..images import encode_animation, encode_pil, is_image, to_uint8
from .options import ANIMATIONS, FOLDER, PICTURES, OutputOptions
from .terminal import render

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Column:
    """An array of known shape whose rows are computed batch by batch as they are written.

    Attributes:
        shape: shape of the whole array; its first axis counts the rows.
        dtype: data type of the array.
        batches: yields the rows in order; may be called more than once.
    """

    shape: tuple[int, ...]
    dtype: Any
    batches: Callable[[], Iterable[NDArray[Any]]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Column:
        """Wrap an in-memory array."""
        return cls(array.shape, array.dtype, lambda: [array])

    def read(self) -> NDArray[Any]:
        """Compute the whole array."""
        return np.concatenate(list(self.batches()))

    def npy(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes of an `.npy` file; a batch is copied only if it needs conversion."""
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
        for batch in self.batches():
            yield np.ascontiguousarray(batch, self.dtype).reshape(-1).view(np.uint8).data

    def csv(self) -> Iterator[bytes]:
        """Yield one line of comma-separated numbers per row; pixels are 0 to 255."""
        for batch in self.batches():
            numbers = to_uint8(batch) if len(self.shape) == 4 else batch
            for row in numbers.reshape(len(batch), -1):
                # NumPy prints the shortest text that parses back to the same float32.
                values = row if row.dtype.kind == "f" else row.tolist()
                yield (",".join(map(str, values)) + "\n").encode()


def write_images(
    images: Column,
    output: OutputOptions,
    extra: dict[str, Column] | None = None,
    columns: int = 0,
    labels: Sequence[str] | None = None,
) -> None:
    """Write images [N, C, H, W], and show them with --show.

    A picture is a grid of all images. `.npy` and `.npz` hold the numbers, and `.npz` also holds the
    `extra` arrays. `.csv` has one line of pixel values (0 to 255) per image; a folder has one PNG
    per image. Only a picture needs all images in memory.

    Args:
        images: f32 in [0, 1], or u8.
        output: the options, already checked.
        extra: further arrays for `.npz`.
        columns: images per row of a grid if --columns is not given; 0 makes it nearly square.
        labels: one per image, drawn on a picture of several images; see `grids.grid`.

    Raises:
        InputError: a picture would contain no images.
        LimitError: a picture would have more than --max-pixels pixels.
    """
    to_picture = output.path is not None and output.extension in PICTURES
    if output.show or to_picture:
        n = images.shape[0]
        if not n:
            raise InputError("no images to draw, expected at least one")
        columns = output.columns or columns or grid_columns(n)
        scale = output.scale or grid_scale(images.shape, min(columns, n))
        height, width = ((side + GAP) * scale for side in images.shape[2:])
        _check_pixels(output, n, height, width)
        whole = images.read()
        show_images(whole, output, columns)
        if to_picture:
            picture = grid(whole, labels if n > 1 else None, columns=columns, scale=scale)
            write_bytes([encode_pil(picture, output.extension)], output)
            return
        images = Column.of(whole)
    if output.path is None:
        return
    if output.extension == FOLDER:
        write_folder(images, Path(output.path), output.scale or 1)
    else:
        write_table(images, output, extra or {})


def write_table(
    main: Column, output: OutputOptions, extra: dict[str, Column], name: str = "images"
) -> None:
    """Write an array to `.npy`, `.npz` or `.csv`; an `.npz` also holds the `extra` arrays."""
    if output.extension == ".npz":
        write_bytes(_npz({name: main, **extra}), output)
    else:
        write_bytes(main.npy() if output.extension == ".npy" else main.csv(), output)


def write_folder(images: Column, folder: Path, scale: int) -> None:
    """Write one numbered PNG per image; create the folder if it is missing.

    Other images that the folder already holds are kept, and a note names the first of them.
    """
    n = images.shape[0]
    save_folder((image for batch in images.batches() for image in batch), n, folder, scale)
    written = {file_name(number, n) for number in range(n)}
    others = sorted(p.name for p in folder.iterdir() if is_image(p) and p.name not in written)
    if others:
        kept = pluralize(len(others), "other image")
        print_status(f"note: {folder}: keeps {kept} from before, such as {others[0]}")


def write_strips(
    strips: NDArray[Any], output: OutputOptions, labels: Sequence[str] | None = None
) -> None:
    """Write strips of frames [rows, steps, C, H, W], and show them with --show.

    A picture has one row per strip; each frame of an animation is a grid of all strips at one step.
    `labels` names the strips of a picture.

    Raises:
        LimitError: the picture, or the sum of all frames, would exceed --max-pixels pixels.
    """
    rows, steps = strips.shape[:2]
    images = strips.reshape(rows * steps, *strips.shape[2:])
    if output.path is None or output.extension not in ANIMATIONS:
        each = None if labels is None else [label for label in labels for _ in range(steps)]
        write_images(Column.of(images), output, columns=steps, labels=each)
        return
    show_images(images, output, steps)
    columns = output.columns or grid_columns(rows)
    frames = [tile(strips[:, step], columns) for step in range(steps)]
    scale = output.scale or grid_scale((rows, *strips.shape[2:]), columns)
    height, width = (side * scale for side in frames[0].shape[1:])
    _check_pixels(output, steps, height, width)
    write_bytes([encode_animation(frames, output.extension, scale=scale)], output)


def write_bytes(chunks: Iterable[bytes | memoryview], output: OutputOptions) -> None:
    """Write bytes to the output file atomically, or chunk by chunk to standard output.

    Raises:
        FileError: the disk is full or access is denied; an existing file is kept.
    """
    if output.path == "-":
        write_stdout(chunks)
        return
    with writing(Path(str(output.path))) as temporary:
        write_large(temporary, chunks)


def write_layers(
    layers: dict[str, NDArray[Any]],
    output: OutputOptions,
    results: NDArray[Any] | None = None,
    extra: dict[str, Column] | None = None,
) -> None:
    """Write sets of images that belong together, such as originals and reconstructions.

    A picture shows them in alternating rows, with their names. Other formats hold only the results.

    Args:
        layers: f32[N, C, H, W] each, by name.
        output: the options, already checked.
        results: the images to write as numbers; by default, the last layer.
        extra: further arrays for `.npz`.
    """
    numbers = output.path is not None and output.extension not in PICTURES
    if output.show or not numbers:
        sheet, columns = interleave([*layers.values()], output.columns or 16)
        names = [name for name in layers for _ in range(columns)]
        on_screen = output.without_file() if numbers else output
        write_images(Column.of(sheet), replace(on_screen, columns=columns),
                     labels=names * (len(sheet) // len(names)))  # fmt: skip
    if numbers:
        chosen = [*layers.values()][-1] if results is None else results
        write_images(Column.of(chosen), replace(output, show=False), extra)


def show_images(images: NDArray[Any], output: OutputOptions, columns: int) -> None:
    """With --show, print images [N, C, H, W] as a grid to the terminal."""
    if output.show:
        # Standard output is reserved for the result or the JSON if either goes there.
        stream = sys.stderr if output.path == "-" or output.as_json else sys.stdout
        click.echo(render(tile(images, columns), stream), file=stream, color=True)


def report(text: str, output: OutputOptions, **summary: Any) -> None:
    """Print a final line on standard error or, with --json, a summary on standard output."""
    if output.as_json:
        print_json({"out": output.path, **summary})
    else:
        print_status(text if output.path is None else f"wrote {text}")


def describe_images(n: int, output: OutputOptions) -> str:
    """Describe the output for the final line, such as `4 images to grid.png`."""
    slash = "/" if output.extension == FOLDER and not str(output.path).endswith("/") else ""
    return pluralize(n, "image") + output.to_path + slash


def _check_pixels(output: OutputOptions, n: int, height: int, width: int) -> None:
    pixels = n * height * width
    if pixels > output.max_pixels:
        raise LimitError(
            f"a picture of {n:,} images would have {pixels:,} pixels, limit "
            f"{output.max_pixels:,}. Write .npy, .npz, .csv or a folder, or use --max-pixels "
            f"{pixels}."
        )


class _Buffer(io.RawIOBase):
    """A stream that is emptied while it is written, so that no whole zip is held in memory."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.chunks.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        whole, self.chunks = b"".join(self.chunks), []
        return whole


def _npz(columns: dict[str, Column]) -> Iterator[bytes]:
    """Yield the bytes of an uncompressed `.npz`; the same arrays give the same bytes."""
    buffer = _Buffer()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, column in columns.items():
            # A ZipInfo made from a name alone carries a fixed date.
            info = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(info, "w", force_zip64=True) as member:
                for chunk in column.npy():
                    member.write(chunk)
                    yield buffer.take()
    yield buffer.take()
