"""Arrays from callers: checked and brought into the one form that the graphs take.

onnxruntime runs some wrong arrays without a word: big-endian floats give wrong pixels, a negative
label wraps around. So everything is refused here, before a session is called.
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

_FLOAT32 = np.dtype(np.float32)


def check_images(images: ArrayLike, spec: ImageSpec) -> NDArray[Any]:
    """Images of any unambiguous layout → u8 or f32 [N, C, H, W], a view of the caller's memory.

    Accepts uint8 (0 to 255) or float32 in [0, 1], as H×W, N×H×W, C×H×W, H×W×C, N×C×H×W or N×H×W×C.

    Raises:
        InputError: another dtype, byte order, shape or range, or a number that is not finite.
    """
    array = _array(images, "images")
    if array.dtype != np.uint8:
        _check_float32(array, "images")
    array = _layout(array, spec)
    if array.dtype != np.uint8 and array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(
            f"images: values run from {array.min():g} to {array.max():g}, expected [0, 1]. "
            "Divide by 255, or pass uint8."
        )
    return array


def to_float32(images: NDArray[Any]) -> NDArray[np.float32]:
    """Checked images, u8 or f32 → f32 in [0, 1], contiguous; bytes are divided by 255."""
    if images.dtype != np.uint8:
        return np.ascontiguousarray(images)
    floats = np.ascontiguousarray(images, np.float32)
    floats /= np.float32(255)
    return floats


def as_latents(z: ArrayLike, latent_dim: int) -> NDArray[np.float32]:
    """Codes f32[N, D] or f32[D] → f32[N, D], contiguous.

    Raises:
        InputError: another dtype, byte order or shape, or a number that is not finite.
    """
    # The usual case first: between two runs of a small graph each call counts.
    if (
        type(z) is np.ndarray
        and z.dtype is _FLOAT32
        and z.ndim == 2
        and z.shape[1] == latent_dim
        and z.flags.c_contiguous
        and isfinite(np.vdot(z, z))  # which warns of no overflow
    ):
        return z
    # A plain list has no dtype to be wrong; an array of another one was made by mistake.
    array = _array(z, "z", None if hasattr(z, "dtype") else np.float32)
    _check_float32(array, "z")
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or array.shape[1] != latent_dim:
        raise InputError(f"z: shape {list(array.shape)}, expected [N, {latent_dim}]")
    return np.ascontiguousarray(array)


def as_labels(label: Labels, n: int, spec: ModelSpec) -> NDArray[np.int64]:
    """A class index, a class name, or n of them → i64[n]; None → the index that means "no label".

    Not to be written to: one label of one item is a view of a table.

    Raises:
        UsageError: the model takes no label, or an unknown name.
        InputError: an index out of range, another dtype, or not n of them.
    """
    classes = spec.classes
    if label is None:
        return _same(len(classes), n, len(classes))
    if not classes:
        raise UsageError(f"this {spec.family} takes no label")
    if type(label) is int:
        if 0 <= label < len(classes):
            return _same(label, n, len(classes))
        raise _out_of_range(label, len(classes))
    one = isinstance(label, (int, str, np.integer))
    items = _array([label] if one else label, "label")
    if items.dtype.kind == "U":
        items = np.array([class_index(str(name), classes) for name in items.ravel()], np.int64)
    if items.dtype.kind not in "iu" or items.ndim != 1 or not items.dtype.isnative:
        raise InputError(f"label: {items.dtype}{list(items.shape)}, expected int64[{n}]")
    if len(items) and (items.min() < 0 or items.max() >= len(classes)):
        wrong = items.min() if items.min() < 0 else items.max()
        raise _out_of_range(wrong, len(classes))
    if one:
        items = np.full(n, items[0])
    if len(items) != n:
        raise InputError(f"label: {len(items)} labels for {n} items")
    return items.astype(np.int64)


def _same(index: int, n: int, classes: int) -> NDArray[np.int64]:
    """The same index n times, i64[n]."""
    return _table(classes)[index : index + 1] if n == 1 else np.full(n, index, np.int64)


@cache
def _table(classes: int) -> NDArray[np.int64]:
    """Every index, that of "no label" last: i64[classes + 1], not to be written to."""
    table = np.arange(classes + 1, dtype=np.int64)
    table.flags.writeable = False
    return table


def stream_labels(label: Labels, n: int | None, spec: ModelSpec) -> NDArray[np.int64] | int | None:
    """Labels of a stream of n items, checked once: an index for all, i64[n], or None.

    Raises:
        UsageError: an endless stream (n is None) with a list of labels.
    """
    if label is None:
        return None
    if isinstance(label, (int, str, np.integer)):
        return one_index(label, spec)
    if n is None:
        raise UsageError("an endless stream takes one label for all")
    return as_labels(label, n, spec)


def one_index(label: int | str | np.integer[Any], spec: ModelSpec) -> int:
    """The class index of one label."""
    plain = label if isinstance(label, (str, bool)) else int(label)
    return int(as_labels(plain, 1, spec)[0])


def class_index(name: str, classes: Sequence[str]) -> int:
    """The index of a class, by its name, or by the index itself written out.

    Raises:
        UsageError: an unknown name, with the known ones.
        InputError: a number of 19 digits or more.
    """
    if name in classes:
        return classes.index(name)
    if name.isascii() and name.isdigit():
        if len(name) < 19:  # Python does not read thousands of digits, nor does an i64 hold 20
            return int(name)
        raise _out_of_range(name if len(name) <= 20 else f"{name[:20]}…", len(classes))
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    raise UsageError(f"label: unknown class {name!r}, expected one of: {known}")


def _out_of_range(index: object, classes: int) -> InputError:
    return InputError(f"label: {index} is out of range, expected 0 to {classes - 1}")


def _array(value: Any, what: str, dtype: type[np.float32] | None = None) -> NDArray[Any]:
    """A plain array of what a caller passed; numbers too large for `dtype` become infinite."""
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
    # The sum of squares is finite only if every number is, and far cheaper than a mask; where the
    # squares overflow, the mask decides.
    return isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _layout(array: NDArray[Any], spec: ImageSpec) -> NDArray[Any]:
    """To N×C×H×W; a shape that fits two layouts is read in the order below."""
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
