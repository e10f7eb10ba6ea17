"""Convert Arrow columns to arrays and back.

An unusable row keeps its place: it becomes zeros in the arrays and null in the results, and
`RowErrors` records the reason. If all rows are good, nothing is copied.
"""

from __future__ import annotations

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
    column: Any, spec: ImageSpec, errors: RowErrors, *, resize: bool = False
) -> NDArray[Any]:
    """Convert a column of images to u8 or f32 [N, C, H, W].

    Args:
        column: lists of C·H·W numbers, channels first, as integers from 0 to 255 or as float32
            in [0, 1]; or image files as bytes, either directly or in the field `bytes` of a struct.
        spec: size and mode of the images that the model takes.
        errors: records the rows that cannot be used.
        resize: resize image files to the model's image size.

    Raises:
        InputError: the column has another type.
    """
    array = to_array(column)
    if pa.types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        # The `datasets` library stores images like this; flatten() keeps the struct's nulls.
        array = array.flatten()[array.type.get_field_index("bytes")]
    kind = array.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _read_files(array, spec, errors, spec.shape[1:] if resize else None)
    if _is_list(kind) and (
        pa.types.is_integer(kind.value_type) or pa.types.is_float32(kind.value_type)
    ):
        numbers = _read_lists(array, spec.channels * spec.height * spec.width, errors)
        return _check_pixels(numbers, errors).reshape(-1, *spec.shape)
    raise InputError(
        f"image: column type {kind}, expected lists of uint8 or float32, or image files as bytes"
    )


def read_labels(column: Any, spec: ModelSpec, errors: RowErrors) -> NDArray[np.int64]:
    """Convert a column of class indices or class names to i64[N].

    Raises:
        InputError: the column has another type.
    """
    array = to_array(column)
    errors.add(_nulls(array), "label: missing")
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        labels = _indices_of(array, spec, errors)
    elif pa.types.is_integer(array.type):
        labels = _to_int64(array)
    else:
        raise InputError(f"label: column type {array.type}, expected integers or class names")
    bad = (labels < 0) | (labels >= len(spec.classes))
    last = len(spec.classes) - 1
    errors.add(bad, lambda i: f"label: {labels[i]} is out of range, expected 0 to {last}")
    return np.where(bad, 0, labels)


def read_row_numbers(column: Any, name: str, errors: RowErrors) -> NDArray[np.int64]:
    """Convert a column of row numbers to i64[N].

    Raises:
        InputError: the column has another type.
    """
    array = to_array(column)
    if not pa.types.is_integer(array.type):
        raise InputError(f"{name}: column type {array.type}, expected integers")
    errors.add(_nulls(array), f"{name}: missing")
    rows = _to_int64(array)
    errors.add(rows < 0, lambda i: f"{name}: {rows[i]}, expected 0 or more")
    return np.where(rows < 0, 0, rows)


def to_array(column: Any) -> Any:
    """Convert a column to one plain array: no chunks, no dictionary encoding, no extension type."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # combine_chunks() returns one if there is no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):  # tensors of Ray Data and of Arrow itself
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _nulls(array: Any) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _to_int64(array: Any) -> NDArray[np.int64]:
    """Convert integers to i64[N]; null becomes 0, and numbers above 2**63 - 1 become negative."""
    numbers: NDArray[np.int64] = array.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
    return numbers


def _indices_of(array: Any, spec: ModelSpec, errors: RowErrors) -> NDArray[np.int64]:
    """Convert class names to i64[N], looking up each distinct name only once."""
    labels = np.zeros(len(array), np.int64)
    encoded = array.fill_null("").dictionary_encode()
    rows = encoded.indices.to_numpy()
    missing = _nulls(array)
    for k, name in enumerate(encoded.dictionary.to_pylist()):
        named = (rows == k) & ~missing
        try:
            labels[named] = class_index(name, spec.classes)
        except (UsageError, InputError) as error:
            errors.add(named, str(error))
    return labels


def _read_lists(array: Any, size: int, errors: RowErrors) -> NDArray[Any]:
    """Convert lists of numbers to [N, size]; rows of the wrong length become zeros."""
    nulls = _nulls(array)
    errors.add(nulls, "image: missing")
    lengths = np.where(
        nulls, -1, pc.call_function("list_value_length", [array]).fill_null(-1).to_numpy()
    )
    good = lengths == size
    errors.add(~good & ~nulls, lambda i: f"image: {lengths[i]} numbers, expected {size}")
    flat = (array if good.all() else array.filter(pa.array(good))).flatten()
    if flat.null_count:
        incomplete = np.zeros(len(array), bool)
        incomplete[good] = _nulls(flat).reshape(-1, size).any(axis=1)
        errors.add(incomplete, "image: a number is missing")
        flat = flat.fill_null(0)
    numbers: NDArray[Any] = flat.to_numpy().reshape(-1, size)
    if good.all():
        return numbers
    padded = np.zeros((len(array), size), numbers.dtype)
    padded[good] = numbers
    return padded


def _check_pixels(numbers: NDArray[Any], errors: RowErrors) -> NDArray[Any]:
    """Convert [N, K] to u8 or f32 [N, K]; rows with a number out of range become zeros."""
    is_float = numbers.dtype == np.float32
    if numbers.dtype == np.uint8 or not numbers.size:
        return numbers if is_float else numbers.astype(np.uint8, copy=False)
    highest = 1 if is_float else 255
    low, high = numbers.min(axis=1), numbers.max(axis=1)  # both NaN if any number is NaN
    bad = ~((low >= 0) & (high <= highest))
    errors.add(
        bad, lambda i: f"image: numbers from {low[i]:g} to {high[i]:g}, expected 0 to {highest}"
    )
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
