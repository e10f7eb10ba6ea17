"""Read IDX files, the format of MNIST and similar data sets, gzipped or not.

The format: two zero bytes, a type code, the number of dimensions, each dimension as a big-endian
u32, then the values. Only unsigned bytes (type 8) are supported: images and labels use them.
"""

from __future__ import annotations

import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, InputError, LimitError, NotFound, describe_os_error
from .classes import UnusableLabels, index_labels
from .dataset import MAX_BYTES, Dataset, lazy_images
from .known import class_names
from .layout import choose_split

_NAME = re.compile(
    r"(?:(?P<set>.+)[-_.])?(?P<split>train|t10k|test)[-_.](?P<kind>images|labels)[-_.]"
    r"idx[134][-_.]ubyte(\.gz)?"
)


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


@dataclass(frozen=True)
class IdxFiles:
    """The files of one data set, by split and kind: `train` or `test`, `images` or `labels`.

    Attributes:
        name: what precedes the split in the files' names, such as `emnist-letters`; may be empty.
        folder: the folder that holds the files.
        files: the path of each file; a plain file is preferred to a gzipped one.
    """

    name: str
    folder: Path
    files: dict[tuple[str, str], Path]


def find_idx(source: Path) -> IdxFiles | None:
    """Find the data set in IDX format that a path names, if there is one.

    Args:
        source: a folder of IDX files; a folder above it, as torchvision makes them
            (`MNIST/raw/`); one file; or, where a folder holds several data sets, the beginning of
            their files' names, such as `gzip/emnist-letters`.

    Raises:
        InputError: there are several data sets.
    """
    if source.is_dir():
        sets = _sets(source)
        for below in ("*/", "*/raw/"):
            sets = sets or [one for folder in sorted(source.glob(below)) for one in _sets(folder)]
    elif source.is_file():
        match = _NAME.fullmatch(source.name.lower())
        sets = [one for one in _sets(source.parent) if match and one.name == (match["set"] or "")]
        return _one_file(sets[0], source) if sets else None
    else:
        sets = _sets(source.parent) if source.parent.is_dir() else []
        sets = [one for one in sets if one.name and one.name == source.name.lower()]
    if len(sets) > 1:
        names = ", ".join(str(one.folder / one.name if one.name else one.folder) for one in sets)
        raise InputError(f"{source}: several data sets. Use one of {names}")
    return sets[0] if sets else None


def _sets(folder: Path) -> list[IdxFiles]:
    found: dict[str, dict[tuple[str, str], Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda p: (p.suffix == ".gz", p.name)):
        match = _NAME.fullmatch(path.name.lower())
        if match and path.is_file():
            key = _split(match), match["kind"]
            found.setdefault(match["set"] or "", {}).setdefault(key, path)
    sets = (IdxFiles(name, folder, files) for name, files in found.items())
    return [one for one in sets if any(kind == "images" for _, kind in one.files)]


def _one_file(found: IdxFiles, images: Path) -> IdxFiles | None:
    """Return one file of images, with its labels, as training data; None if it holds labels."""
    match = _NAME.fullmatch(images.name.lower())
    if not match or match["kind"] != "images":
        return None
    labels = found.files.get((_split(match), "labels"))
    files = {("train", "images"): images} | ({("train", "labels"): labels} if labels else {})
    return replace(found, files=files)


def _split(match: re.Match[str]) -> str:
    return "train" if match["split"] == "train" else "test"


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


def load_idx(found: IdxFiles, split: str, *, lazy: bool = False) -> Dataset:
    """Read `train-images-idx3-ubyte[.gz]` and its labels (`t10k-…` or `test-…` for the test split).

    Four dimensions are N, H, W, C. Labels are optional; the classes are the distinct labels of both
    splits. The second hyphen may be a dot, as in some copies of MNIST. The images of EMNIST are
    stored on their side and turned upright here.

    Args:
        found: the files.
        split: `train` or `test`.
        lazy: read images on demand, unless they are gzipped.

    Raises:
        NotFound: there are no images for this split.
        InputError: a file is damaged, or the labels do not fit the images.
    """
    stored = [one for one, kind in found.files if kind == "images"]
    chosen = choose_split(split, stored)
    if chosen is None:
        name = "train-images-idx3-ubyte" if split == "train" else "t10k-images-idx3-ubyte"
        raise NotFound(f"{found.folder}: no {name}[.gz] for the {split} split")
    images_path = found.files[chosen, "images"]
    lazy = lazy and images_path.suffix != ".gz"
    images = map_idx(images_path) if lazy else read_idx(images_path)
    if images.ndim not in (3, 4):
        raise InputError(f"{images_path}: {images.ndim} dimensions, expected 3 (N, H, W) or 4")
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    notes: tuple[str, ...] = ()
    if found.name.startswith("emnist"):
        images = images.swapaxes(2, 3)
        notes = ("turned upright, as EMNIST is stored on its side",)
    if lazy:
        pixels = lazy_images(lambda rows: images[rows], images.shape[1:], len(images))
    else:
        pixels = np.ascontiguousarray(images)
    folder = found.folder.resolve()
    data = Dataset(
        found.name or (folder.parent if folder.name == "raw" else folder).name,
        pixels,
        split=chosen,
        part=images_path.name if len(stored) > 1 else "",
        notes=notes,
    )
    return _with_labels(data, found)


def _with_labels(data: Dataset, found: IdxFiles) -> Dataset:
    """Add the labels and the names of their classes, if there are labels."""
    labels = {
        one: (path, read_idx(path)) for (one, kind), path in found.files.items() if kind == "labels"
    }
    if data.split not in labels:
        return data
    path, own = labels[data.split]
    if own.shape != (len(data),):
        raise InputError(
            f"{path}: labels {list(own.shape)} for {len(data)} images in "
            f"{found.files[data.split, 'images'].name}"
        )
    try:
        indices, classes = index_labels(own, [values for _, values in labels.values()])
    except UnusableLabels as error:
        return replace(data, notes=(*data.notes, f"no labels, as {path.name} holds {error}"))
    names = class_names(found.name, own)
    return replace(data, labels=indices, classes=tuple(names.get(name, name) for name in classes))
