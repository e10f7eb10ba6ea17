"""IDX files, the format of MNIST and its kin, gzipped or not.

The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
u32, then the values. Only unsigned bytes (type 8) are read: images and labels are stored so.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError, LimitError, NotFound
from .dataset import Dataset, lazy_images

SPLITS = {"train": "train", "test": "t10k"}
MAX_BYTES = 4 << 30  # what one file may unpack to


def read_idx(path: Path, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes.

    The header is compared with the payload before anything of its size is allocated.

    Returns:
        u8 of the shape in the header.

    Raises:
        NotFound: there is no such file.
        FileError: the file cannot be read.
        InputError: not an IDX file, a damaged gzip, or a header that does not fit the payload.
        LimitError: the header promises more than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as opened:
            stream = cast(BinaryIO, opened)
            shape = _header(stream, path)
            wanted = prod(shape)
            if wanted > max_bytes:
                raise LimitError(f"{path}: header promises {wanted} bytes, limit {max_bytes}")
            return np.frombuffer(_payload(stream, wanted, path), np.uint8).reshape(shape)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged or truncated gzip. Download it again.") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def _header(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != 8 or not 1 <= magic[3] <= 4:
        raise InputError(
            f"{path}: starts with {magic.hex()}, expected an IDX header of bytes (000008nn)"
        )
    raw = stream.read(4 * magic[3])
    if len(raw) < 4 * magic[3]:
        raise InputError(f"{path}: ends inside the IDX header")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4"))
    if 0 in shape and prod(max(n, 1) for n in shape) >= 1 << 63:  # NumPy makes no such array
        raise InputError(f"{path}: impossible sizes {list(shape)}")
    return shape


def _payload(stream: BinaryIO, wanted: int, path: Path) -> bytearray:
    """Exactly `wanted` bytes, read in pieces: a lying header costs no memory."""
    pieces, missing = [], wanted
    while missing and (piece := stream.read(min(missing, 1 << 20))):
        pieces.append(piece)
        missing -= len(piece)
    if missing or stream.read(1):
        seen = f"only {wanted - missing}" if missing else "more than that"
        raise InputError(f"{path}: header promises {wanted} bytes of data, the file has {seen}")
    return bytearray().join(pieces)


def is_idx_folder(folder: Path) -> bool:
    """Whether the folder has files named as MNIST names its own."""
    return any(folder.glob("*images?idx[34]-ubyte*"))


def map_idx(path: Path) -> NDArray[np.uint8]:
    """Map one IDX file of unsigned bytes that is not gzipped; nothing but its header is read.

    Returns:
        u8 of the shape in the header, read from the file where it is used. The file must stay as
        it is: cut short under way, it ends the process.

    Raises:
        NotFound, FileError, InputError: see `read_idx`.
    """
    try:
        with path.open("rb") as file:
            shape = _header(file, path)
            start = file.tell()
            seen, wanted = file.seek(0, 2) - start, prod(shape)
            if seen != wanted or not wanted:
                raise InputError(f"{path}: header promises {wanted} bytes of data, found {seen}")
            return np.memmap(file, np.uint8, "r", start, shape)
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def load_idx(folder: Path, split: str, *, lazy: bool = False) -> Dataset:
    """Read `train-images-idx3-ubyte[.gz]` and its labels (`t10k-…` for the test split).

    Four dimensions are read as N, H, W, C. Labels may be absent. A dot in place of the second
    hyphen, as some copies have it, is fine.

    Args:
        folder: where they are.
        split: `train` or `test`.
        lazy: leave images that are not gzipped in their file until they are used.

    Raises:
        NotFound: the folder has no images for this split.
        InputError: a damaged file, or labels that do not fit the images.
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
    pixels = _rows_of(images) if lazy else np.ascontiguousarray(images)
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


def _rows_of(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows of a mapped array, copied when they are used."""
    return lazy_images(lambda rows: images[rows], images.shape[1:], len(images))


def _find(folder: Path, pattern: str) -> Path | None:
    """The file that fits the pattern, plain or else with `.gz` behind it."""
    found = [*sorted(folder.glob(pattern)), *sorted(folder.glob(f"{pattern}.gz"))]
    return found[0] if found else None
