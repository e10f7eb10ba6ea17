"""Use Parquet files as a data set; a row group is read when one of its rows is needed."""

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

from ..arrow.columns import RowErrors, read_images, to_array
from ..arrow.parquet_files import find_parquet, open_parquet
from ..bundle.spec import ImageSpec
from ..errors import InputError, NotFound
from ..files.atomic import writing
from ..images import read_image, to_uint8
from .dataset import Dataset, lazy_images

_GROUPS_KEPT = 2  # cached in memory: reading rows in order reads each group once
_GROUP_ROWS = 16_384  # per row group when writing; jobs are divided along row groups


def load_parquet(
    source: str, split: str, *, size: tuple[int, int] | None = None, mode: str | None = None
) -> Dataset:
    """Open Parquet files as a data set; labels are read now, images when they are used.

    The columns are `image` and optionally `label`, in the forms that `vae_runtime.arrow` reads. The
    classes are the distinct strings of `label`, sorted numerically if all are numbers. Files whose
    names begin with `train` or `test` form these splits; if there are none, all are training data.

    Args:
        source: a file, a folder or a glob.
        split: `train` or `test`.
        size: (H, W) of images stored as lists of numbers; None means square images.
        mode: `L` or `RGB`, the mode of such images; None infers it from the lists' length.

    Raises:
        NotFound: there are no such files, or none for this split.
        InputError: not Parquet, no rows, no images, or a missing label. A bad image raises this
            error only when it is read.
    """
    files = _files_of_split(find_parquet(source), source, split)
    groups = [(file, k, rows) for file in files for k, rows in enumerate(_row_groups(file)) if rows]
    if not groups:
        raise InputError(f"{source}: no rows")
    spec = _spec(_column(*groups[0][:2], "image"), source, size, mode)
    starts = np.cumsum([0, *(rows for *_, rows in groups)])
    stored = _Stored([group[:2] for group in groups], starts, spec)
    images = lazy_images(stored.read, spec.shape, int(starts[-1]))
    name = Path(source).stem
    with open_parquet(files[0]) as opened:
        if "label" not in opened.schema_arrow.names:
            return Dataset(name, images)
    labels = [_column(file, k, "label") for file, k, _ in groups]
    column = pa.chunked_array([chunk for part in labels for chunk in part.chunks])
    indices, classes = _read_labels(column, source)
    return Dataset(name, images, indices, classes)


class _Stored:
    """A reader of images by row number that caches the most recently read row groups."""

    def __init__(
        self, groups: Sequence[tuple[str, int]], starts: NDArray[np.intp], spec: ImageSpec
    ) -> None:
        self._groups, self._starts, self._spec = groups, starts, spec
        self._group = lru_cache(_GROUPS_KEPT)(self._read_group)

    def read(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Read the images at `rows`, which may be in any order, as u8[n, C, H, W]."""
        images = np.empty((len(rows), *self._spec.shape), np.uint8)
        groups = np.searchsorted(self._starts, rows, "right") - 1
        for k in np.unique(groups):
            wanted = groups == k
            images[wanted] = self._group(int(k))[rows[wanted] - self._starts[k]]
        return images

    def _read_group(self, k: int) -> NDArray[np.uint8]:
        file, group = self._groups[k]
        column = _column(file, group, "image")
        errors = RowErrors(len(column))
        images = read_images(column, self._spec, errors)
        if errors.reasons:
            row, reason = min(errors.reasons.items())
            raise InputError(f"{file}: row {self._starts[k] + row} of the data set: {reason}")
        return images if images.dtype == np.uint8 else to_uint8(images)


def _files_of_split(files: list[str], source: str, split: str) -> list[str]:
    splits = ("train", "test")
    named = {name: [f for f in files if Path(f).name.startswith(name)] for name in splits}
    if not any(named.values()):
        named["train"] = files
    if not named[split]:
        raise NotFound(
            f"{source}: no Parquet file named {split}*.parquet, expected one for the {split} split"
        )
    return named[split]


def _row_groups(file: str) -> list[int]:
    """Return the number of rows in each row group."""
    with open_parquet(file) as opened:
        footer = opened.metadata
        return [footer.row_group(k).num_rows for k in range(footer.num_row_groups)]


def _column(file: str, group: int, name: str) -> Any:
    """Read one column of one row group."""
    with open_parquet(file) as opened:
        names = opened.schema_arrow.names
        if name not in names:
            raise InputError(f"{file}: no column {name!r}, found {', '.join(names) or 'none'}")
        try:
            return opened.read_row_group(group, columns=[name])[name]
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: row group {group} is damaged") from error


def _spec(column: Any, source: str, size: tuple[int, int] | None, mode: str | None) -> ImageSpec:
    """Infer the shape of all images from the first one."""
    array = to_array(column)
    first = array.slice(0, 1).to_pylist()[0]
    first = first.get("bytes") if isinstance(first, dict) else first
    if isinstance(first, bytes):
        return ImageSpec(*read_image(first, mode=mode).shape)
    if not isinstance(first, list) or not first:
        raise InputError(
            f"{source}: the first image is {array.type}, expected numbers or an image file"
        )
    return _spec_of_list(len(first), source, size, mode)


def _spec_of_list(
    numbers: int, source: str, size: tuple[int, int] | None, mode: str | None
) -> ImageSpec:
    for channels in {None: (1, 3), "L": (1,), "RGB": (3,)}[mode]:
        side = math.isqrt(numbers // channels)
        height, width = size or (side, side)
        if channels * height * width == numbers:
            return ImageSpec(channels, height, width)
    shape = f"{size[0]}x{size[1]}" if size else "square"
    raise InputError(
        f"{source}: images of {numbers} numbers, expected {shape} images of 1 or 3 channels. "
        "Give their size with --size HxW."
    )


def _read_labels(column: Any, source: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Convert a column to class indices i64[N] and class names."""
    array = to_array(column)
    if array.null_count:
        raise InputError(f"{source}: {array.null_count} missing labels")
    if pa.types.is_integer(array.type):
        labels = array.cast(pa.int64()).to_numpy()
        return labels, tuple(str(k) for k in range(int(labels.max(initial=0)) + 1))
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        raise InputError(f"{source}: label column type {array.type}, expected integers or names")
    encoded = array.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    numeric = all(name.isascii() and name.isdigit() for name in names)
    classes = sorted(names, key=lambda name: (int(name), name) if numeric else (0, name))
    index = np.array([classes.index(name) for name in names], np.int64)
    return index[encoded.indices.to_numpy()], tuple(classes)


def write_dataset(data: Dataset, path: Path) -> None:
    """Write a column `image` (C·H·W bytes each) and, if there are labels, `label` (class names).

    Raises:
        FileError: the file cannot be written; an existing file is kept.
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
