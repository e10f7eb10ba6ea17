"""A data set in Parquet files, of which a row group is read when one of its rows is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..arrow.columns import plain, read_images
from ..arrow.faults import Faults
from ..arrow.plan import files_of, open_parquet
from ..bundle.spec import ImageSpec
from ..errors import InputError, NotFound
from ..files.atomic import writing
from ..images import read_image, to_uint8
from .dataset import Dataset, lazy_images

_GROUPS_KEPT = 2  # in memory: rows that are used in their order are then read once


def load_parquet(
    source: str, split: str, *, size: tuple[int, int] | None = None, mode: str | None = None
) -> Dataset:
    """The rows of Parquet files as a data set; labels are read, images are not.

    A column `image` and, where there are labels, a column `label`, as `vae_runtime.arrow` reads
    them; class names are the strings of `label` in order, numbers by their value. Where some files
    are named `train…` or `test…`, they are those splits; else all are training data.

    Args:
        source: a file, a folder or a glob.
        split: `train` or `test`.
        size: (H, W) of images that are lists of numbers; None takes them for squares.
        mode: `L` or `RGB` of such; None tells by their length.

    Raises:
        NotFound: no such file, or none for the split.
        InputError: not Parquet, no rows, no images, a label that is missing. Images themselves
            are refused when they are read.
    """
    files = _of_split(files_of(source), source, split)
    groups = [(file, k, rows) for file in files for k, rows in enumerate(_row_groups(file)) if rows]
    if not groups:
        raise InputError(f"{source}: no rows")
    spec = _spec(_column(*groups[0][:2], "image"), source, size, mode)
    starts = np.cumsum([0, *(rows for *_, rows in groups)])
    stored = _Stored([group[:2] for group in groups], starts, spec)
    images = lazy_images(stored.read, spec.shape, int(starts[-1]))
    name = Path(source).stem
    if not _has(files[0], "label"):
        return Dataset(name, images)
    labels = [_column(file, k, "label") for file, k, _ in groups]
    indices, classes = _labels(
        pa.chunked_array([c for part in labels for c in part.chunks]), source
    )
    return Dataset(name, images, indices, classes)


class _Stored:
    """Reads rows, whole row groups at a time."""

    def __init__(
        self, groups: Sequence[tuple[str, int]], starts: NDArray[np.intp], spec: ImageSpec
    ) -> None:
        self._groups, self._starts, self._spec = groups, starts, spec
        self._group = lru_cache(_GROUPS_KEPT)(self._read_group)

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Images u8[n, C, H, W] of `rows`, in any order."""
        found = np.empty((len(rows), *self._spec.shape), np.uint8)
        owner = np.searchsorted(self._starts, rows, "right") - 1
        for k in np.unique(owner):
            here = owner == k
            found[here] = self._group(int(k))[rows[here] - self._starts[k]]
        return found

    def _read_group(self, k: int) -> NDArray[np.uint8]:
        file, group = self._groups[k]
        column = _column(file, group, "image")
        faults = Faults(len(column))
        images = read_images(column, self._spec, faults)
        if faults.reasons:
            row, reason = min(faults.reasons.items())
            raise InputError(f"{file}: row {self._starts[k] + row} of all: {reason}")
        return images if images.dtype == np.uint8 else to_uint8(images)


def _of_split(files: list[str], source: str, split: str) -> list[str]:
    words = ("train", "test")
    named = {word: [f for f in files if Path(f).name.startswith(word)] for word in words}
    if not any(named.values()):
        named["train"] = files
    if not named[split]:
        raise NotFound(f"{source}: no Parquet file named {split}… for the {split} split")
    return named[split]


def _row_groups(file: str) -> list[int]:
    """The rows of each row group."""
    with open_parquet(file) as opened:
        found = opened.metadata
        return [found.row_group(k).num_rows for k in range(found.num_row_groups)]


def _has(file: str, name: str) -> bool:
    with open_parquet(file) as opened:
        return name in opened.schema_arrow.names


def _column(file: str, group: int, name: str) -> Any:
    """One column of one row group."""
    with open_parquet(file) as opened:
        names = opened.schema_arrow.names
        if name not in names:
            raise InputError(f"{file}: no column {name!r}, found {', '.join(names) or 'none'}")
        try:
            return opened.read_row_group(group, columns=[name])[name]
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: row group {group} is damaged") from error


def _spec(column: Any, source: str, size: tuple[int, int] | None, mode: str | None) -> ImageSpec:
    """The shape of all images, by the first."""
    array = plain(column)
    first = array.slice(0, 1).to_pylist()[0]
    first = first.get("bytes") if isinstance(first, dict) else first
    if isinstance(first, bytes):
        return ImageSpec(*read_image(first, mode=mode).shape)
    if not isinstance(first, list) or not first:
        raise InputError(f"{source}: the first image is {array.type}, expected numbers or a file")
    return _spec_of(len(first), source, size, mode)


def _spec_of(
    numbers: int, source: str, size: tuple[int, int] | None, mode: str | None
) -> ImageSpec:
    for channels in {None: (1, 3), "L": (1,), "RGB": (3,)}[mode]:
        side = math.isqrt(numbers // channels)
        height, width = size or (side, side)
        if channels * height * width == numbers:
            return ImageSpec(channels, height, width)
    shape = f"{size[0]}x{size[1]}" if size else "square"
    raise InputError(
        f"{source}: images of {numbers} numbers are not {shape} ones of 1 or 3 channels. "
        "Name their size with --size HxW."
    )


def _labels(column: Any, source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Class indices i64[N] and class names."""
    array = plain(column)
    if array.null_count:
        raise InputError(f"{source}: {array.null_count} labels are missing")
    if pa.types.is_integer(array.type):
        labels = array.cast(pa.int64()).to_numpy()
        return labels, tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise InputError(f"{source}: labels are {array.type}, expected whole numbers or names")
    coded = array.dictionary_encode()
    names = coded.dictionary.to_pylist()
    whole = all(name.isascii() and name.isdigit() for name in names)
    order = sorted(names, key=lambda name: (int(name), name) if whole else (0, name))
    place = np.array([order.index(name) for name in names], np.int64)
    return place[coded.indices.to_numpy()], tuple(order)


_GROUP_ROWS = 16_384  # row groups are what a job is cut along


def write_dataset(data: Dataset, path: Path) -> None:
    """Write `image`, C·H·W bytes a row, and `label`, the class's name, where there are labels.

    Raises:
        FileError: it cannot be written; a previous file is kept.
    """
    size = int(np.prod(data.image_shape))
    pixels = pa.array(np.ascontiguousarray(data.images).reshape(-1))
    columns = {"image": pa.FixedSizeListArray.from_arrays(pixels, size)}
    if data.labels is not None:
        indices = pa.array(data.labels.astype(np.int32))
        columns["label"] = pa.DictionaryArray.from_arrays(
            indices, list(data.classes)
        ).dictionary_decode()
    options: dict[str, Any] = {
        "row_group_size": _GROUP_ROWS,
        "use_dictionary": ["label"],
        "write_page_checksum": True,
    }
    with writing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, **options)
