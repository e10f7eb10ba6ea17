"""Read IDX files, the format of MNIST and similar data sets, gzipped or not.

The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
u32, then the values. Only unsigned bytes (type 8) are supported: images and labels use them.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError, LimitError, NotFound, describe_os_error
from .dataset import Dataset, lazy_images

SPLITS = {"train": "train", "test": "t10k"}
MAX_BYTES = 4 << 30  # of one file, uncompressed


def read_idx(path: Path, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    Memory use grows only with the bytes read, so a false header cannot exhaust memory.

    Returns:
        An array u8 of the shape in the header.

    Raises:
        NotFound: there is no such file.
        FileError: the file cannot be read.
        InputError: not an IDX file, a damaged gzip, or a header that does not match the payload.
        LimitError: the header declares more than `max_bytes`.
    """
    with _reading(path):
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as opened:
            stream = cast(BinaryIO, opened)
            shape = _read_header(stream, path)
            expected = prod(shape)
            if expected > max_bytes:
                raise LimitError(f"{path}: header declares {expected} bytes, limit {max_bytes}")
            return np.frombuffer(_read_values(stream, expected, path), np.uint8).reshape(shape)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate errors in opening and reading a file into this project's exceptions."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged or truncated gzip. Download it again.") from error
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error


def _read_header(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != 8 or not 1 <= magic[3] <= 4:
        raise InputError(
            f"{path}: starts with {magic.hex()}, expected an IDX header of bytes (000008nn)"
        )
    raw = stream.read(4 * magic[3])
    if len(raw) < 4 * magic[3]:
        raise InputError(f"{path}: ends inside the IDX header")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4"))
    if 0 in shape and prod(max(n, 1) for n in shape) >= 1 << 63:  # NumPy cannot hold such a shape
        raise InputError(f"{path}: impossible sizes {list(shape)}")
    return shape


def _read_values(stream: BinaryIO, expected: int, path: Path) -> bytearray:
    """Read exactly `expected` bytes in chunks, so that a false header cannot exhaust memory."""
    values = bytearray()
    while chunk := stream.read(min(expected - len(values), 1 << 20)):
        values += chunk
    missing = len(values) < expected
    if missing or stream.read(1):
        seen = f"only {len(values)}" if missing else "more than that"
        raise InputError(f"{path}: header declares {expected} bytes of data, the file has {seen}")
    return values


def is_idx_folder(folder: Path) -> bool:
    """Return whether the folder has image files with MNIST-style names."""
    return any(folder.glob("*images?idx[34]-ubyte*"))


def map_idx(path: Path) -> NDArray[np.uint8]:
    """Map one uncompressed IDX file of unsigned bytes into memory; only its header is read.

    Returns:
        An array u8 of the shape in the header, read from the file when used. The file must not
        change: if it is truncated in the meantime, the process crashes.

    Raises:
        NotFound, FileError, InputError: see `read_idx`.
    """
    with _reading(path), path.open("rb") as file:
        shape = _read_header(file, path)
        start = file.tell()
        seen, expected = file.seek(0, 2) - start, prod(shape)
        if seen != expected or not expected:
            raise InputError(f"{path}: header declares {expected} bytes of data, found {seen}")
        return np.memmap(file, np.uint8, "r", start, shape)


def load_idx(folder: Path, split: str, *, lazy: bool = False) -> Dataset:
    """Read `train-images-idx3-ubyte[.gz]` and its labels (`t10k-…` for the test split).

    Four dimensions are N, H, W, C. Labels are optional. The second hyphen may be a dot, as in some
    copies of MNIST.

    Args:
        folder: the folder that holds the files.
        split: `train` or `test`.
        lazy: read images on demand, unless they are gzipped.

    Raises:
        NotFound: the folder has no images for this split.
        InputError: a file is damaged, or the labels do not fit the images.
    """
    images_path = _find(folder, f"{SPLITS[split]}-images?idx[34]-ubyte")
    if images_path is None:
        raise NotFound(f"{folder}: no {SPLITS[split]}-images-idx3-ubyte[.gz] for the {split} split")
    lazy = lazy and images_path.suffix != ".gz"
    images = map_idx(images_path) if lazy else read_idx(images_path)
    if images.ndim not in (3, 4):
        raise InputError(f"{images_path}: {images.ndim} dimensions, expected 3 (N, H, W) or 4")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    name = folder.resolve().name
    if lazy:
        pixels = lazy_images(lambda rows: images[rows], images.shape[1:], len(images))
    else:
        pixels = np.ascontiguousarray(images)
    labels_path = _find(folder, f"{SPLITS[split]}-labels?idx1-ubyte")
    if labels_path is None:
        return Dataset(name, pixels)
    labels = read_idx(labels_path).astype(np.int64)
    if labels.shape != (len(images),):
        raise InputError(
            f"{labels_path}: labels {list(labels.shape)} for {len(images)} images in "
            f"{images_path.name}"
        )
    classes = tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))
    return Dataset(name, pixels, labels, classes)


def _find(folder: Path, pattern: str) -> Path | None:
    """Find the first file that matches `pattern`, or else the first that matches `pattern.gz`."""
    found = [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"{pattern}.gz"))]
    return found[0] if found else None
