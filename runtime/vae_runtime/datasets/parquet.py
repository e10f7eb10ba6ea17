"""Use Parquet files as a data set; a row group is read when one of its rows is needed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..arrow import storage
from ..arrow.columns import RowErrors, read_images, read_integers, tensor_layout, to_array
from ..arrow.reader import read_batches
from ..bundle.spec import MODES, ImageSpec
from ..errors import InputError, NotFound
from ..images import read_image, to_uint8
from .classes import UnusableLabels, index_labels
from .dataset import Dataset, ReadOptions, lazy_images
from .layout import choose_split, split_of

# Columns as this project and data sets on the Hugging Face hub name them; the first one counts.
_IMAGES = ("image", "img", "images", "pixel_values")
_LABELS = ("label", "labels", "fine_label", "class", "target")
_FIRST = 64  # images that are decoded to find out whether any is in colour
_GROUPS_KEPT = 2  # cached in memory: reading rows in order reads each group once
_GROUP_ROWS = 16_384  # per row group when writing; jobs are divided along row groups


def load_parquet(source: str, split: str, options: ReadOptions) -> Dataset:
    """Open Parquet files as a data set; labels are read now, images when they are used.

    The columns are `image` and optionally `label`, in the forms that `vae_runtime.arrow` reads;
    the names that Hugging Face data sets use are known too, and so are the class names that they
    store in the schema. Without these, the classes are the distinct labels of all splits. Files or
    folders that are named after a split form it; if there are none, all are training data.

    Args:
        source: a file, a folder or a glob.
        split: see `load_dataset`.
        options: `size` resizes encoded images, and is the shape of images stored as lists of
            numbers, which are square by default; the length of the lists tells their mode.

    Raises:
        NotFound: there are no such files, or none for this split.
        InputError: not Parquet, no rows, no images, or a missing label. A bad image raises this
            error only when it is read.
    """
    splits = _split_files(_find(source), source)
    left_out = splits.pop("", [])
    chosen = choose_split(split, splits)
    if chosen is None:
        raise NotFound(
            f"{source}: no Parquet file named {split}*.parquet, expected one for the {split} split"
        )
    if chosen != "val" and {"val", "test"} <= set(splits):
        left_out = [*left_out, *splits["val"]]
    left_rows = sum(rows for file in left_out for rows in _row_groups(file))
    files = splits[chosen]
    groups = [(file, k, rows) for file in files for k, rows in enumerate(_row_groups(file)) if rows]
    if not groups:
        raise InputError(f"{source}: no rows")
    images = _find_column(files[0], _IMAGES)
    if images is None:
        raise InputError(f"{files[0]}: no column 'image', found {', '.join(_names(files[0]))}")
    spec, encoded = _spec(*_column(*groups[0][:2], images, _FIRST), source, options)
    starts = np.cumsum([0, *(rows for *_, rows in groups)])
    resize = encoded and options.size is not None
    stored = _Stored([group[:2] for group in groups], starts, spec, images, resize=resize)
    data = Dataset(
        Path(source).stem,
        lazy_images(stored.read, spec.shape, int(starts[-1])),
        split=chosen,
        part=_shorten(files) if len(splits) > 1 else "",
        notes=(f"left out: {left_rows:,} in {_shorten(left_out)}",) if left_out else (),
    )
    return _with_labels(data, splits, source)


def _with_labels(data: Dataset, splits: dict[str, list[str]], source: str) -> Dataset:
    """Add the labels and classes, if there is a column of labels."""
    files = splits[data.split]
    name = _find_column(files[0], _LABELS)
    if name is None:
        return data
    others = [f for one in splits.values() for f in one if name in _names(f)]
    columns = {file: _labels(file, name, source) for file in dict.fromkeys([*files, *others])}
    own = np.concatenate([columns[file] for file in files])
    known = _class_names(files[0], name)
    try:
        labels, classes = index_labels(own, columns.values(), known)
    except UnusableLabels as error:
        return replace(data, notes=(*data.notes, f"no labels, as {name} holds {error}"))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    return replace(data, labels=labels, classes=classes)


class _Stored:
    """A reader of images by row number that caches the most recently read row groups."""

    def __init__(
        self,
        groups: Sequence[tuple[str, int]],
        starts: NDArray[np.intp],
        spec: ImageSpec,
        name: str,
        *,
        resize: bool,
    ) -> None:
        self._groups, self._starts, self._spec = groups, starts, spec
        self._name, self._resize = name, resize
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
        rows, start = int(self._starts[k + 1] - self._starts[k]), 0
        images = np.empty((rows, *self._spec.shape), np.uint8)
        place, name = storage.split_file(file)
        # A few rows at a time, so that only the pixels of the row group are held in memory.
        for batch in read_batches(place, name, rows=1024, groups=[group], columns=[self._name]):
            column, field = batch.column(self._name), batch.schema.field(self._name)
            errors = RowErrors(len(column))
            found = read_images(column, self._spec, errors, field, resize=self._resize)
            if (bad := errors.first()) is not None:
                number = self._starts[k] + start + bad[0]
                raise InputError(f"{file}: row {number} of the data set: {bad[1]}")
            images[start : start + len(found)] = (
                found if found.dtype == np.uint8 else to_uint8(found)
            )
            start += len(found)
        return images


def _find(source: str) -> list[str]:
    place, files = storage.find_parquet(source)
    return [storage.join(place, file) for file in files]


def _open(file: str) -> Any:
    return storage.open_parquet(*storage.split_file(file))


def _split_files(files: list[str], source: str) -> dict[str, list[str]]:
    """Return the files of each split; those of none have the key "" unless all are of none."""
    if len(files) == 1:  # used whatever its name says
        return {"train": files}
    root = Path(source).resolve()
    found: dict[str, list[str]] = {}
    for file in files:
        path = Path(file)
        inside = path.relative_to(root).parts if path.is_relative_to(root) else (path.name,)
        named = (split_of(Path(part).stem)[0] for part in reversed(inside))
        found.setdefault(next(filter(None, named), ""), []).append(file)
    return found if any(found) else {"train": files}


def _shorten(files: list[str]) -> str:
    return Path(files[0]).name + (", …" if files[1:] else "")


def _names(file: str) -> list[str]:
    with _open(file) as opened:
        return list(opened.schema_arrow.names)


def _find_column(file: str, known: tuple[str, ...]) -> str | None:
    names = _names(file)
    return next((name for name in known if name in names), None)


def _row_groups(file: str) -> list[int]:
    """Return the number of rows in each row group."""
    with _open(file) as opened:
        footer = opened.metadata
        return [footer.row_group(k).num_rows for k in range(footer.num_row_groups)]


def _column(file: str, group: int, name: str, limit: int | None = None) -> tuple[Any, Any]:
    """Read one column of one row group, or its first rows; return it with its `pyarrow.Field`."""
    with _open(file) as opened:
        names = opened.schema_arrow.names
        if name not in names:
            raise InputError(f"{file}: no column {name!r}, found {', '.join(names) or 'none'}")
        try:
            if limit is None:
                table = opened.read_row_group(group, columns=[name])
            else:  # a row group may hold gigabytes
                batches = opened.iter_batches(limit, row_groups=[group], columns=[name])
                table = pa.Table.from_batches([next(batches)])
            return table[name], table.schema.field(name)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{file}: row group {group} is damaged") from error


def _spec(column: Any, field: Any, source: str, options: ReadOptions) -> tuple[ImageSpec, bool]:
    """Infer the shape of all images from the first ones, and whether they are encoded files."""
    shape, axes = tensor_layout(column.type, field)
    sizes = None if shape is None else tuple(shape[axis] for axis in axes)
    array = to_array(column)
    rows = array.to_pylist()
    if isinstance(rows[0], dict) and rows[0].get("shape"):  # tensors that have a shape each
        sizes = tuple(rows[0]["shape"])
    rows = [row.get("bytes", row.get("data")) if isinstance(row, dict) else row for row in rows]
    first = rows[0]
    if isinstance(first, bytes) and sizes is None:
        if pa.types.is_fixed_size_binary(array.type):  # raw pixels; files differ in length
            return _spec_of_list(len(first), source, options.size, options.mode), False
        images = [read_image(row, mode=options.mode) for row in rows if isinstance(row, bytes)]
        height, width = options.size or images[0].shape[1:]
        return ImageSpec(max(map(len, images)), height, width), True
    if not isinstance(first, list) or not first:
        raise InputError(
            f"{source}: the first image is {array.type}, expected numbers or an image file"
        )
    sizes = sizes or _sizes_of(first)
    if len(sizes) > 1:
        return _spec_of_shape(sizes, source), False
    return _spec_of_list(len(first), source, options.size, options.mode), False


def _sizes_of(nested: list[Any]) -> tuple[int, ...]:
    """Return the lengths of nested lists, judging by the first of each."""
    inner = nested[0] if nested else None
    return (len(nested), *(_sizes_of(inner) if isinstance(inner, list) else ()))


def _spec_of_shape(sizes: tuple[int, ...], source: str) -> ImageSpec:
    if len(sizes) == 2:
        return ImageSpec(1, *sizes)
    if len(sizes) == 3 and (sizes[0] in MODES or sizes[2] in MODES):
        # H×W×C, unless only the first axis can be the channels.
        c, h, w = (sizes[2], *sizes[:2]) if sizes[2] in MODES else sizes
        return ImageSpec(c, h, w)
    raise InputError(
        f"{source}: images of shape {'×'.join(map(str, sizes))}, expected H×W, H×W×C or C×H×W of "
        "1 to 4 channels"
    )


def _spec_of_list(
    numbers: int, source: str, size: tuple[int, int] | None, mode: str | None
) -> ImageSpec:
    for channels in (1, 3) if mode is None else [c for c, name in MODES.items() if name == mode]:
        side = math.isqrt(numbers // channels)
        height, width = size or (side, side)
        if channels * height * width == numbers:
            return ImageSpec(channels, height, width)
    shape = f"{size[0]}x{size[1]}" if size else "square"
    raise InputError(
        f"{source}: images of {numbers} numbers, expected {shape} images of 1 or 3 channels. "
        "Give their size with --size HxW."
    )


def _labels(file: str, name: str, source: str) -> NDArray[Any]:
    """Read a column of labels as integers or text [N]."""
    columns = [_column(file, k, name)[0] for k, rows in enumerate(_row_groups(file)) if rows]
    if not columns:
        return np.empty(0, np.int64)
    array = to_array(pa.chunked_array([chunk for part in columns for chunk in part.chunks]))
    if array.null_count:
        raise InputError(f"{source}: {array.null_count} missing labels")
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return np.array(array.to_pylist(), np.str_)
    errors = RowErrors(len(array))
    try:
        labels = read_integers(array, name, errors, "integers or names")
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if (bad := errors.first()) is not None:
        raise InputError(f"{source}: row {bad[0]}: {bad[1]}")
    return labels


def _class_names(file: str, column: str) -> tuple[str, ...]:
    """Return the class names that the `datasets` library stores in the schema, if there are any."""
    with _open(file) as opened:
        stored = (opened.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(stored)["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def write_dataset(data: Dataset, path: str | Path) -> None:
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
    place, name = storage.split_file(storage.absolute(path))
    with storage.writing_file(place, name) as temporary:
        pq.write_table(pa.table(columns), temporary, **options)
