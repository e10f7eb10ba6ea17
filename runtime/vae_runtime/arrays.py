"""Check the arrays that callers pass and convert them to what the graphs take.

onnxruntime accepts some wrong arrays silently: big-endian floats give wrong pixels, and a negative
label wraps around. Therefore every array is checked here before a session sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from .bundle.spec import ImageSpec, ModelSpec
from .errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Labels: TypeAlias = Union[int, str, Sequence[int | str], "NDArray[Any]", None]
"""What callers may pass: a class index, a class name, a sequence of either, or None."""

Indices: TypeAlias = Union[int, "NDArray[np.int64]", None]
"""Checked labels: one class index for all items, i64[n], or None for no label."""

_FLOAT32 = np.dtype(np.float32)


def check_images(images: ArrayLike, spec: ImageSpec) -> NDArray[Any]:
    """Check images and arrange them as u8 or f32 [N, C, H, W], a view where possible.

    Accepts uint8 (0 to 255) or float32 in [0, 1], as H×W, N×H×W, C×H×W, H×W×C, N×C×H×W or N×H×W×C.

    Raises:
        InputError: wrong dtype, byte order, shape or range, or a number that is not finite.
    """
    array = _array(images, "images")
    if array.dtype != np.uint8:
        _check_float32(array, "images")
    array = _to_nchw(array, spec)
    if array.dtype != np.uint8 and array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"images: values run from {array.min():g} to {array.max():g}, expected [0, 1]. "
            "Divide by 255, or pass uint8."
        )
    return array


def to_float32(images: NDArray[Any]) -> NDArray[np.float32]:
    """Convert checked images, u8 or f32, to contiguous f32 in [0, 1]; u8 is divided by 255."""
    if images.dtype != np.uint8:
        return np.ascontiguousarray(images)
    floats = np.ascontiguousarray(images, np.float32)
    floats /= np.float32(255)
    return floats


def as_latents(z: ArrayLike, latent_dim: int) -> NDArray[np.float32]:
    """Check latents f32[N, D] or f32[D] and return them as contiguous f32[N, D].

    Raises:
        InputError: wrong dtype, byte order or shape, or a number that is not finite.
    """
    # A short cut for the usual case: each NumPy call adds measurably to a run of a small graph.
    if (
        type(z) is np.ndarray
        and z.dtype is _FLOAT32
        and z.ndim == 2
        and z.shape[1] == latent_dim
        and z.flags.c_contiguous
        and isfinite(np.vdot(z, z))  # overflows without a warning
    ):
        return z
    # Lists are converted, because they have no dtype; an array of another dtype is a mistake.
    array = _array(z, "z", None if hasattr(z, "dtype") else np.float32)
    _check_float32(array, "z")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != latent_dim:
        raise InputError(f"z: shape {list(array.shape)}, expected [N, {latent_dim}]")
    return np.ascontiguousarray(array)


def check_labels(label: Labels, n: int | None, spec: ModelSpec) -> Indices:
    """Convert labels to class indices: one for all items, i64[n], or None.

    Args:
        label: what the caller passed.
        n: number of items; None for an endless stream.
        spec: the model whose classes are meant.

    Raises:
        UsageError: the model takes no label, the name is unknown, or a list was passed for an
            endless stream.
        InputError: an index is out of range, or the dtype or number of labels is wrong.
    """
    if label is None:
        return None
    if isinstance(label, (int, str, np.integer)):
        return label_index(label, spec)
    if n is None:
        raise UsageError("an endless stream takes a single label")
    items = _label_array(label, spec, n)
    if items.shape != (n,):
        raise InputError(f"label: {len(items)} labels for {n} items")
    return items


def label_index(label: int | str | np.integer[Any], spec: ModelSpec) -> int:
    """Return the class index of one label.

    Raises:
        UsageError, InputError: see `check_labels`.
    """
    if type(label) is not int or not spec.classes:
        return int(_label_array([label], spec, 1)[0])
    if not 0 <= label < len(spec.classes):
        raise _out_of_range(label, len(spec.classes))
    return label


def _label_array(labels: Any, spec: ModelSpec, n: int) -> NDArray[np.int64]:
    """Convert class indices or names to checked indices i64[n]."""
    classes = spec.classes
    if not classes:
        raise UsageError(f"this {spec.family} takes no label")
    items = _array(labels, "label")
    if items.dtype.kind == "U":
        items = np.array([class_index(str(name), classes) for name in items.ravel()], np.int64)
    if items.dtype.kind not in "iu" or items.ndim != 1 or not items.dtype.isnative:
        raise InputError(f"label: {items.dtype}{list(items.shape)}, expected int64[{n}]")
    if len(items) and (items.min() < 0 or items.max() >= len(classes)):
        wrong = items.min() if items.min() < 0 else items.max()
        raise _out_of_range(wrong, len(classes))
    return items.astype(np.int64)


def label_rows(label: Indices, n: int, classes: int) -> NDArray[np.int64]:
    """Return checked labels as a graph's input, i64[n]; the index `classes` means no label."""
    if isinstance(label, np.ndarray):
        return label
    index = classes if label is None else label
    return _every_index(classes)[index : index + 1] if n == 1 else np.full(n, index, np.int64)


def as_labels(label: Labels, n: int, spec: ModelSpec) -> NDArray[np.int64]:
    """Convert labels to indices i64[n]; None becomes the index that means no label.

    Raises:
        UsageError, InputError: see `check_labels`.
    """
    return label_rows(check_labels(label, n, spec), n, len(spec.classes))


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class from its name, or from its index as text.

    Raises:
        UsageError: an unknown name; the message lists the known ones.
        InputError: an index of 19 digits or more.
    """
    if name in classes:
        return classes.index(name)
    if name.isascii() and name.isdigit():
        if len(name) < 19:  # always fits an int64, and int() refuses thousands of digits
            return int(name)
        raise _out_of_range(name if len(name) <= 20 else f"{name[:20]}…", len(classes))
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    raise UsageError(f"label: unknown class {name!r}, expected one of: {known}")


@cache
def _every_index(classes: int) -> NDArray[np.int64]:
    """Return all class indices and the index that means no label, read-only i64[classes + 1]."""
    indices = np.arange(classes + 1, dtype=np.int64)
    indices.flags.writeable = False
    return indices


def _out_of_range(index: object, classes: int) -> InputError:
    return InputError(f"label: {index} is out of range, expected 0 to {classes - 1}")


def _array(value: Any, what: str, dtype: type[np.float32] | None = None) -> NDArray[Any]:
    """Convert an argument to an array; numbers too large for `dtype` become infinite."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(value, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{what}: {type(value).__name__}, expected an array of numbers") from error


def _check_float32(array: NDArray[Any], what: str) -> None:
    if not array.dtype.isnative:
        raise InputError(
            f"{what}: big-endian {array.dtype.str}, expected native float32. "
            f"Convert: {what}.astype(np.float32)"
        )
    if array.dtype != np.float32:
        raise InputError(
            f"{what}: {array.dtype}, expected float32{' or uint8' if what == 'images' else ''}. "
            f"Convert: {what}.astype(np.float32)"
        )
    if not _all_finite(array):
        bad = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"{what}: {array[tuple(bad)]} at {[int(i) for i in bad]}, expected finite")


def _all_finite(array: NDArray[Any]) -> bool:
    # The sum of squares is finite only if every number is finite, and it is far cheaper than a
    # mask. The mask decides when the squares overflow.
    return isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _to_nchw(array: NDArray[Any], spec: ImageSpec) -> NDArray[Any]:
    """Arrange images as N×C×H×W; if a shape fits two layouts, the first one below is used."""
    c, h, w = spec.shape
    shape = array.shape
    if shape[1:] == (c, h, w) and array.ndim == 4:
        return array
    if shape[1:] == (h, w, c) and array.ndim == 4:
        return array.transpose(0, 3, 1, 2)
    if shape == (c, h, w):
        return array[None]
    if shape == (h, w, c):
        return array.transpose(2, 0, 1)[None]
    if c == 1 and shape == (h, w):
        return array[None, None]
    if c == 1 and array.ndim == 3 and shape[1:] == (h, w):
        return array[:, None]
    raise InputError(
        f"images: shape {list(shape)}, expected [N, {c}, {h}, {w}] or [N, {h}, {w}, {c}]"
    )
