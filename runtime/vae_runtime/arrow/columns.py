"""Convert Arrow columns to arrays and back.

An unusable row keeps its place: it becomes zeros in the arrays and null in the results, and
`RowErrors` records the reason. If all rows are good, nothing is copied.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, LimitError, UsageError
from ..images import encode_image, read_image
from ..labels import class_index

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ImageSpec, ModelSpec


class RowErrors:
    """The bad rows of one table, each with the first reason found.

    Attributes:
        n: number of rows in the table.
        reasons: one line per bad row, keyed by its position in the table.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.reasons: dict[int, str] = {}

    def add(self, bad: NDArray[np.bool_], reason: str | Callable[[int], str]) -> None:
        """Record a reason for all rows in a mask; `reason` may be a function of the row number."""
        for row in np.flatnonzero(bad).tolist():
            self.set(row, reason if isinstance(reason, str) else reason(row))

    def set(self, row: int, reason: str) -> None:
        """Record a reason for one row, unless it already has one."""
        self.reasons.setdefault(row, reason)

    def first(self) -> tuple[int, str] | None:
        """Return the first bad row and its reason, or None if all rows are good."""
        return min(self.reasons.items(), default=None)

    def mask(self) -> NDArray[np.bool_] | None:
        """Return bool[N], where True marks a bad row, or return None if all rows are good."""
        if not self.reasons:
            return None
        bad = np.zeros(self.n, bool)
        bad[list(self.reasons)] = True
        return bad

    def to_arrow(self) -> Any:
        """Build the column `error`: a reason for each bad row, and null for each good row."""
        if not self.reasons:
            return pa.nulls(self.n, pa.string())
        return pa.array([self.reasons.get(row) for row in range(self.n)], pa.string())


# From columns to arrays


def read_images(
    column: Any, spec: ImageSpec, errors: RowErrors, field: Any = None, *, resize: bool = False
) -> NDArray[Any]:
    """Convert a column of images to u8 or f32 [N, C, H, W].

    Args:
        column: numbers, as integers from 0 to 255, booleans, or floats in [0, 1]; or image files.
            Numbers are tensors or nested lists of C×H×W, H×W×C or H×W (for one channel), or lists
            or bytes of C·H·W. Files are bytes, directly or in the field `bytes` of a struct.
        spec: size and mode of the images that the model takes.
        errors: records the rows that cannot be used.
        field: the column's `pyarrow.Field`, which has the shape of a tensor whose type is not
            registered in this process.
        resize: resize image files to the model's image size.

    Raises:
        InputError: the column has another type or shape.
    """
    shape, axes = tensor_layout(column.type, field)
    array = to_array(column)
    if pa.types.is_struct(array.type):
        array, shape = _from_struct(array, spec, errors, shape)
    kind, size = array.type, spec.channels * spec.height * spec.width
    if pa.types.is_fixed_size_binary(kind) and kind.byte_width == size:
        pixels = pa.Array.from_buffers(
            pa.uint8(), len(array) * size, [None, array.buffers()[1]], offset=array.offset * size
        )
        array = pa.FixedSizeListArray.from_arrays(pixels, size, mask=array.is_null())
    elif _is_bytes(kind):
        return _read_files(array, spec, errors, spec.shape[1:] if resize else None)
    if shape is None or _depth(array.type) > 1:
        return _channels_first(_read_lists(array, _shape_of_lists(array, spec), errors), spec)
    numbers = _read_lists(array, (math.prod(shape),), errors).reshape(-1, *shape)
    order = (1 + axis for axis in axes or range(len(shape)))
    return _channels_first(numbers.transpose(0, *order), spec)


def read_labels(column: Any, spec: ModelSpec, errors: RowErrors) -> NDArray[np.int64]:
    """Convert a column of class indices or class names to i64[N].

    Raises:
        InputError: the column has another type.
    """
    array = to_array(column)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        labels = _indices_of(array, spec, errors)
    else:
        labels = read_integers(array, "label", errors, "integers or class names")
    last = len(spec.classes) - 1
    bad = (labels < 0) | (labels > last)
    errors.add(bad, lambda i: f"label: {labels[i]} is out of range, expected 0 to {last}")
    return np.where(bad, 0, labels)


def read_integers(
    column: Any, name: str, errors: RowErrors, expected: str = "integers"
) -> NDArray[np.int64]:
    """Convert integers, booleans, and floats or decimals that are whole to i64[N].

    Raises:
        InputError: the column has another type.
    """
    array = to_array(column)
    errors.add(_nulls(array), f"{name}: missing")
    numbers: NDArray[np.int64]
    if pa.types.is_integer(array.type) or pa.types.is_boolean(array.type):
        # Numbers above 2**63 - 1 become negative, and are refused with those.
        numbers = array.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
        return numbers
    if not (pa.types.is_floating(array.type) or pa.types.is_decimal(array.type)):
        raise InputError(f"{name}: column type {array.type}, expected {expected}")
    floats = array.cast(pa.float64()).fill_null(0).to_numpy()
    bad = ~((floats == np.rint(floats)) & (np.abs(floats) < 2.0**63))
    errors.add(bad, lambda i: f"{name}: {floats[i]:g}, expected a whole number")
    numbers = np.where(bad, 0, floats).astype(np.int64)
    return numbers


def to_array(column: Any) -> Any:
    """Convert a column to one array without chunks, encodings, views or extension types."""
    if isinstance(column, pa.ChunkedArray) and not column.num_chunks:
        column = pa.nulls(0, getattr(column.type, "storage_type", column.type))
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        array = pc.call_function("run_end_decode", [array])
    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return array.cast(views[array.type]) if array.type in views else array


def is_double(kind: Any) -> bool:
    """Return whether a type holds float64, directly, in lists or in tensors."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return bool(pa.types.is_float64(_leaf(kind)))


def tensor_layout(kind: Any, field: Any) -> tuple[list[int] | None, list[int]]:
    """Return a tensor's stored shape and the order of its axes; (None, []) for other columns."""
    metadata = (field.metadata if field is not None else None) or {}
    if isinstance(kind, pa.BaseExtensionType):
        found = {name: getattr(kind, name, None) for name in ("shape", "permutation")}
    else:  # Arrow's own tensors record a dictionary, those of Ray a list
        try:
            found = json.loads(metadata.get(b"ARROW:extension:metadata", b"{}"))
        except ValueError:
            found = {}
        found = found if isinstance(found, dict) else {"shape": found}
    shape = found.get("shape")
    shape = None if shape is None else [int(size) for size in shape]
    axes = list(found.get("permutation") or range(len(shape or ())))
    if shape is not None and len(shape) == 3 and shape[axes[1]] in (1, 3):
        # pyarrow records the inverse of the permutation that its own format documents.
        axes = np.argsort(axes).tolist()
    return shape, axes


def _from_struct(
    array: Any, spec: ImageSpec, errors: RowErrors, shape: list[int] | None
) -> tuple[Any, list[int] | None]:
    """Return the files of a struct, or the numbers of tensors of several shapes and their shape."""
    names = {field.name for field in array.type}
    if "bytes" in names:  # as the `datasets` library stores images
        return to_array(_member(array, "bytes")), shape
    if not {"data", "shape"} <= names:
        raise _wrong_type(array.type)
    shapes = [None if row is None else tuple(row) for row in _member(array, "shape").to_pylist()]
    known = [row for row in shapes if row in _shapes(spec)]
    wanted = known[0] if known else spec.shape
    bad = np.array([row not in (None, wanted) for row in shapes], bool)
    errors.add(bad, lambda i: f"image: shape {_times(shapes[i] or ())}, expected {_times(wanted)}")
    data = to_array(_member(array, "data"))
    nulls = pa.nulls(len(data), data.type)
    return pc.call_function("if_else", [pa.array(bad), nulls, data]), list(wanted)


def _member(array: Any, name: str) -> Any:
    return array.flatten()[array.type.get_field_index(name)]  # keeps the nulls of the struct


def _shapes(spec: ImageSpec) -> list[tuple[int, ...]]:
    """Return the shapes that an image may have."""
    c, h, w = spec.shape
    return [(c, h, w), (h, w, c), (c * h * w,), *([(h, w)] if c == 1 else [])]


def _shape_of_lists(array: Any, spec: ImageSpec) -> tuple[int, ...]:
    """Return the shape that nested lists should have, judging by the first row."""
    depth = _depth(array.type)
    shapes = [shape for shape in _shapes(spec) if len(shape) == depth]
    leaf = _leaf(array.type)
    numeric = pa.types.is_integer(leaf) or pa.types.is_floating(leaf)
    if not shapes or not (numeric or pa.types.is_boolean(leaf) or pa.types.is_decimal(leaf)):
        raise _wrong_type(array.type)
    first = pc.call_function("list_value_length", [array]).drop_null()[:1].to_pylist()
    return next((shape for shape in shapes if first == [shape[0]]), shapes[0])


def _channels_first(numbers: NDArray[Any], spec: ImageSpec) -> NDArray[Any]:
    """Convert images of any accepted shape to [N, C, H, W]."""
    c, h, w = spec.shape
    shape = numbers.shape[1:]
    if shape not in _shapes(spec):
        expected = " or ".join(map(_times, _shapes(spec)))
        raise InputError(f"image: shape {_times(shape)}, expected {expected}")
    if shape == (h, w, c) != spec.shape:
        numbers = numbers.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(numbers).reshape(-1, c, h, w)


def _wrong_type(kind: Any) -> InputError:
    return InputError(
        f"image: column type {kind}, expected numbers as lists or tensors, or image files as bytes"
    )


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
        or types.is_list_view(kind) or types.is_large_list_view(kind)
    )  # fmt: skip


def _is_bytes(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def _depth(kind: Any) -> int:
    return 1 + _depth(kind.value_type) if _is_list(kind) else 0


def _leaf(kind: Any) -> Any:
    return _leaf(kind.value_type) if _is_list(kind) else kind


def _nulls(array: Any) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _indices_of(array: Any, spec: ModelSpec, errors: RowErrors) -> NDArray[np.int64]:
    """Convert class names to i64[N], looking up each distinct name only once."""
    labels = np.zeros(len(array), np.int64)
    missing = _nulls(array)
    errors.add(missing, "label: missing")
    encoded = array.fill_null("").dictionary_encode()
    rows = encoded.indices.to_numpy()
    for k, name in enumerate(encoded.dictionary.to_pylist()):
        named = (rows == k) & ~missing
        try:
            labels[named] = class_index(name, spec.classes)
        except (UsageError, InputError) as error:
            errors.add(named, str(error))
    return labels


def _read_lists(array: Any, shape: tuple[int, ...], errors: RowErrors) -> NDArray[Any]:
    """Convert lists, nested as deep as `shape`, to u8 or f32 [N, *shape]; bad rows become zeros."""
    rows = np.arange(len(array))  # those still good
    for level, size in enumerate(shape):
        lengths = pc.call_function("list_value_length", [array]).fill_null(-1).to_numpy()
        each = np.where(_nulls(array), -1, lengths).reshape(len(rows), math.prod(shape[:level]))
        bad = each != size
        for i in np.flatnonzero(bad.any(axis=1)).tolist():
            seen = int(each[i][bad[i]][0])
            counted = f"{seen} numbers" if len(shape) == 1 else f"a list of {seen}"
            reason = "missing" if seen < 0 else f"{counted}, expected {_times(shape)}"
            errors.set(int(rows[i]), f"image: {reason}")
        if bad.any():
            array = array.filter(pa.array(np.repeat(~bad.any(axis=1), bad.shape[1])))
            rows = rows[~bad.any(axis=1)]
        array = array.flatten()
    flat = len(rows), math.prod(shape)
    for i in rows[_nulls(array).reshape(flat).any(axis=1)].tolist():
        errors.set(i, "image: a number is missing")
    numbers = _check_pixels(_to_pixels(array).reshape(flat), rows, errors)
    if len(rows) < errors.n:
        padded = np.zeros((errors.n, math.prod(shape)), numbers.dtype)
        padded[rows] = numbers
        numbers = padded
    return numbers.reshape(-1, *shape)


def _to_pixels(array: Any) -> NDArray[Any]:
    """Convert numbers to integers or float32, with True as 255; null becomes 0."""
    kind = array.type
    if pa.types.is_boolean(kind):
        white, black = pa.scalar(255, pa.uint8()), pa.scalar(0, pa.uint8())
        array = pc.call_function("if_else", [array, white, black])
    elif pa.types.is_decimal(kind):
        array = array.cast(pa.float64())
    if not pa.types.is_integer(array.type):
        array = array.cast(pa.float32(), safe=False)
    numbers: NDArray[Any] = (array.fill_null(0) if array.null_count else array).to_numpy()
    if pa.types.is_float16(kind):
        # float16 holds k / 255 to three digits. Where that is the value, k / 255 is meant.
        levels = np.clip(np.nan_to_num(np.rint(numbers * 255)), 0, 255) / np.float32(255)
        numbers = np.where(levels.astype(np.float16) == numbers, levels, numbers)
    return numbers


def _check_pixels(numbers: NDArray[Any], rows: NDArray[np.intp], errors: RowErrors) -> NDArray[Any]:
    """Convert the numbers [n, K] of `rows` to u8 or f32; rows out of range become zeros."""
    is_float = numbers.dtype == np.float32
    if numbers.dtype == np.uint8 or not numbers.size:
        return numbers if is_float else numbers.astype(np.uint8, copy=False)
    highest = 1 if is_float else 255
    low, high = numbers.min(axis=1), numbers.max(axis=1)  # both NaN if any number is NaN
    bad = ~((low >= 0) & (high <= highest))
    for i in np.flatnonzero(bad).tolist():
        seen = f"numbers from {low[i]:g} to {high[i]:g}"
        errors.set(int(rows[i]), f"image: {seen}, expected 0 to {highest}")
    if bad.any():
        numbers = np.where(bad[:, None], numbers.dtype.type(0), numbers)
    return numbers if is_float else numbers.astype(np.uint8)


def _read_files(
    array: Any, spec: ImageSpec, errors: RowErrors, size: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Decode image files to u8[N, C, H, W] in the model's mode, resized to `size` if given."""
    images = np.zeros((len(array), *spec.shape), np.uint8)
    for i, raw in enumerate(array):
        try:
            if not raw.is_valid:
                raise InputError("image: missing")
            image = read_image(raw.as_py(), mode=spec.mode, size=size)
            if image.shape != spec.shape:
                raise InputError(
                    f"image: {image.shape[1]}×{image.shape[2]} pixels, "
                    f"expected {spec.height}×{spec.width}"
                )
            images[i] = image
        except (InputError, LimitError) as error:
            errors.set(i, str(error))
    return images


# From arrays to columns


def to_lists(values: NDArray[Any], errors: RowErrors, *, fixed: bool) -> Any:
    """Convert [N, …] to a column of fixed-size or variable-size lists, without a copy."""
    n, bad = len(values), errors.mask()
    size = int(np.prod(values.shape[1:]))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    mask = None if bad is None else pa.array(bad)
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, size, mask=mask)
    if n * size < 2**31:
        offsets = np.arange(n + 1, dtype=np.int32) * np.int32(size)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=mask)
    return pa.LargeListArray.from_arrays(pa.array(np.arange(n + 1) * size), flat, mask=mask)


def to_png(images: NDArray[np.uint8], errors: RowErrors) -> Any:
    """Encode u8[N, C, H, W] as a column of PNG files as bytes."""
    bad = errors.reasons
    files = (None if i in bad else encode_image(image) for i, image in enumerate(images))
    return pa.array(files, pa.binary())
