"""Results to files or standard output, in the format that the file's name asks for."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, UsageError
from ..files import write_atomic
from ..images import (
    encode_animation,
    encode_image,
    grid,
    grid_columns,
    to_uint8,
    write_images,
)

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
TABLES = (".npy", ".npz", ".csv")
_COMFORTABLE = 500  # pixels; what a grid is enlarged to


def check_target(out: str) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises:
        UsageError: an extension that means nothing here.
        FileError: the folder is missing or may not be written.
    """
    path = Path(out)
    known = (*PICTURES, *TABLES, "")
    if out != "-" and path.suffix.lower() not in known and not path.is_dir():
        raise UsageError(
            f"{out}: unknown type {path.suffix}, expected one of {' '.join(known[:-1])}"
        )
    if out != "-" and not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise FileError(f"{out}: folder {path.parent} is missing or may not be written")


def write_result(
    images: NDArray[Any],
    out: str,
    *,
    columns: int | None = None,
    scale: int | None = None,
    animate: bool = False,
    extra: dict[str, NDArray[Any]] | None = None,
) -> str:
    """Write images N×C×H×W to `out`.

    A picture is a grid, or with `animate` and `.gif` or `.webp` an animation; `.npy` and `.npz`
    keep the floats (`.npz` the `extra` arrays too); `.csv` has one line of pixels an image; a name
    without extension is a folder of PNGs; `-` is a PNG on standard output.

    Returns:
        What was written, in words.
    """
    path = Path(out)
    suffix = ".png" if out == "-" else path.suffix.lower()
    if suffix == "" or path.is_dir():
        return f"{len(write_images(images, path, scale=scale or 1))} images in {path}/"
    if animate and suffix in (".gif", ".webp"):
        data = encode_animation(list(images), suffix, scale=scale or _scale(images, 1))
    elif suffix in PICTURES:
        columns = columns or grid_columns(len(images))
        data = encode_image(
            grid(images, columns), suffix, scale or _scale(images, min(columns, len(images)))
        )
    else:
        data = _table(images, suffix, extra or {})
    put(data, out)
    return f"{len(images)} image{'s' if len(images) != 1 else ''} to {out}"


def put(data: bytes, out: str) -> None:
    """Bytes to a file, atomically, or to standard output."""
    if out == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomic(Path(out), data)


def _scale(images: NDArray[Any], columns: int) -> int:
    if len(images) == 1:
        return 1
    return max(1, _COMFORTABLE // (columns * (images.shape[3] + 2)))


def _table(images: NDArray[Any], suffix: str, extra: dict[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, images, allow_pickle=False)
    elif suffix == ".npz":
        np.savez(buffer, images=images, **extra)
    else:
        rows = to_uint8(images).reshape(len(images), -1)
        np.savetxt(buffer, rows, fmt="%d", delimiter=",")
    return buffer.getvalue()
