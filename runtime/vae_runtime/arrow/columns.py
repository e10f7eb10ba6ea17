"""Arrow columns to arrays, without a copy where all rows are good.

A row that cannot be used becomes zeros, so that every row keeps its place, and its reason is noted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..arrays import class_index
from ..errors import InputError, LimitError, UsageError
from ..images import read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ImageSpec, ModelSpec
    from .faults import Faults


def read_images(column: Any, spec: ImageSpec, faults: Faults) -> NDArray[Any]:
    """A column of images → u8 or f32 [N, C, H, W].

    Args:
        column: lists of C·H·W numbers, planes first, as whole numbers from 0 to 255 or as float32
            in [0, 1]; or image files as bytes, alone or in the field `bytes` of a struct.
        spec: what the model takes.
        faults: gets the rows that cannot be used.

    Raises:
        InputError: a column of another type.
    """
    array = plain(column)
    if pa.types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        # As the `datasets` library writes images; null where the struct is.
        array = array.flatten()[array.type.get_field_index("bytes")]
    kind = array.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(array, spec, faults)
    if _is_list(kind) and (
        pa.types.is_integer(kind.value_type) or pa.types.is_float32(kind.value_type)
    ):
        numbers = _stacked(array, spec.channels * spec.height * spec.width, faults)
        return _checked(numbers, faults).reshape(-1, *spec.shape)
    raise InputError(
        f"image: a column of {kind}, expected lists of uint8 or float32, or image files as bytes"
    )


def read_labels(column: Any, spec: ModelSpec, faults: Faults) -> NDArray[np.int64]:
    """A column of class indices or class names → i64[N].

    Raises:
        InputError: a column of another type.
    """
    array = plain(column)
    faults.add(_nulls(array), "label: missing")
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        labels = _named(array, spec, faults)
    elif pa.types.is_integer(array.type):
        labels = _whole(array)
    else:
        raise InputError(f"label: a column of {array.type}, expected whole numbers or class names")
    wrong = (labels < 0) | (labels >= len(spec.classes))
    last = len(spec.classes) - 1
    faults.add(wrong, lambda i: f"label: {labels[i]} is out of range, expected 0 to {last}")
    return np.where(wrong, 0, labels)


def read_index(column: Any, name: str, faults: Faults) -> NDArray[np.int64]:
    """A column of row numbers → i64[N].

    Raises:
        InputError: a column of another type.
    """
    array = plain(column)
    if not pa.types.is_integer(array.type):
        raise InputError(f"{name}: a column of {array.type}, expected whole numbers")
    faults.add(_nulls(array), f"{name}: missing")
    index = _whole(array)
    faults.add(index < 0, lambda i: f"{name}: {index[i]}, expected 0 or more")
    return np.where(index < 0, 0, index)


def plain(column: Any) -> Any:
    """One array in place of chunks, dictionaries and extension types."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # what combine_chunks returns where there is no chunk
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):  # tensors of Ray Data, and Arrow's own
        array = array.storage
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_list(kind: Any) -> bool:
    return bool(
        pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def _nulls(array: Any) -> NDArray[np.bool_]:
    nulls: NDArray[np.bool_] = array.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _whole(array: Any) -> NDArray[np.int64]:
    """Integers of any width → i64[N], 0 for null; what is beyond 2**63 - 1 becomes negative."""
    numbers: NDArray[np.int64] = array.cast(pa.int64(), safe=False).fill_null(0).to_numpy()
    return numbers


def _named(array: Any, spec: ModelSpec, faults: Faults) -> NDArray[np.int64]:
    labels = np.zeros(len(array), np.int64)
    coded = array.fill_null("").dictionary_encode()
    rows = coded.indices.to_numpy()
    missing = _nulls(array)
    for k, name in enumerate(coded.dictionary.to_pylist()):
        here = (rows == k) & ~missing
        try:
            labels[here] = class_index(name, spec.classes)
        except (UsageError, InputError) as error:
            faults.add(here, str(error))
    return labels


def _stacked(array: Any, size: int, faults: Faults) -> NDArray[Any]:
    """Lists → [N, size] of their own numbers; rows of another length become zeros."""
    nulls = _nulls(array)
    faults.add(nulls, "image: missing")
    lengths = np.where(
        nulls, -1, pc.call_function("list_value_length", [array]).fill_null(-1).to_numpy()
    )
    good = lengths == size
    faults.add(~good & ~nulls, lambda i: f"image: {lengths[i]} numbers, expected {size}")
    kept = (array if good.all() else array.filter(pa.array(good))).flatten()
    if kept.null_count:
        holes = np.zeros(len(array), bool)
        holes[good] = _nulls(kept).reshape(-1, size).any(axis=1)
        faults.add(holes, "image: a number is missing")
        kept = kept.fill_null(0)
    numbers: NDArray[Any] = kept.to_numpy().reshape(-1, size)
    if good.all():
        return numbers
    whole = np.zeros((len(array), size), numbers.dtype)
    whole[good] = numbers
    return whole


def _checked(numbers: NDArray[Any], faults: Faults) -> NDArray[Any]:
    """Numbers [N, K] as u8 or f32; a row with one that is no pixel becomes zeros."""
    if numbers.dtype == np.uint8 or not numbers.size:
        return numbers if numbers.dtype == np.float32 else numbers.astype(np.uint8, copy=False)
    whole = numbers.dtype != np.float32
    highest = 255 if whole else 1
    low, high = numbers.min(axis=1), numbers.max(axis=1)  # both NaN where one number is
    bad = ~((low >= 0) & (high <= highest))
    faults.add(
        bad, lambda i: f"image: numbers from {low[i]:g} to {high[i]:g}, expected 0 to {highest}"
    )
    if bad.any():
        numbers = np.where(bad[:, None], numbers.dtype.type(0), numbers)
    return numbers.astype(np.uint8) if whole else numbers


def _decoded(array: Any, spec: ImageSpec, faults: Faults) -> NDArray[np.uint8]:
    """Image files → u8[N, C, H, W], in the model's mode; one of another size is refused."""
    images = np.zeros((len(array), *spec.shape), np.uint8)
    for i, raw in enumerate(array):
        try:
            if not raw.is_valid:
                raise InputError("image: missing")
            image = read_image(raw.as_py(), mode=spec.mode)
            if image.shape != spec.shape:
                raise InputError(
                    f"image: {image.shape[1]}×{image.shape[2]} pixels, "
                    f"expected {spec.height}×{spec.width}"
                )
            images[i] = image
        except (InputError, LimitError) as error:
            faults.set(i, str(error))
    return images
