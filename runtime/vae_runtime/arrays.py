"""Check the arrays and numbers that callers pass, and convert arrays to the form that graphs take.

onnxruntime accepts some wrong arrays silently: big-endian floats give wrong pixels, and a negative
label wraps around. Therefore every array is checked here before a session sees it.
"""

from __future__ import annotations

from math import inf, isfinite, prod
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


_FLOAT32 = np.dtype(np.float32)


class ImageShape(Protocol):
    """What images are checked against; an `ImageSpec` is one."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of one image."""
        ...


def check_whole(name: str, value: object, low: int, high: int | None = None) -> None:
    """Check that an argument is a whole number from `low` to `high`, if that is given.

    Raises:
        UsageError: it is not.
    """
    whole = isinstance(value, int | np.integer)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        limits = f"{low} or more" if high is None else f"{low} to {high}"
        raise UsageError(f"{name} is {value!r}, expected a whole number, {limits}")


def check_number(name: str, value: object, low: float = -inf) -> None:
    """Check that an argument is a finite number of at least `low`.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, int | float | np.integer | np.floating) or not low <= value < inf:
        at_least = "" if low == -inf else f", {low:g} or more"
        raise UsageError(f"{name} is {value!r}, expected a finite number{at_least}")


def check_images(images: ArrayLike, spec: ImageShape) -> NDArray[Any]:
    """Check images and return them as u8 or f32 [N, C, H, W], without a copy where possible.

    Accepts uint8 (0 to 255) or float32 in [0, 1], as H×W, N×H×W, C×H×W, H×W×C, N×C×H×W or N×H×W×C.

    Raises:
        InputError: wrong dtype, byte order, shape or range, or a number that is not finite.
    """
    array = as_array(images, "images")
    _refuse_paths(array)
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


def as_latents(z: ArrayLike, latent_shape: tuple[int, ...], what: str = "z") -> NDArray[np.float32]:
    """Check latents and return them as contiguous f32[N, *latent_shape].

    Accepts f32[N, *latent_shape], f32[*latent_shape] and, flattened, f32[N, D]; errors call them
    `what`.

    Raises:
        InputError: wrong dtype, byte order or shape, or a number that is not finite.
    """
    # A shortcut for the usual case: each NumPy call measurably slows a run of a small graph.
    if (
        type(z) is np.ndarray
        and z.dtype is _FLOAT32
        and z.shape[1:] == latent_shape
        and z.flags.c_contiguous
        and isfinite(np.vdot(z, z))  # overflows without a warning
    ):
        return z
    # Lists have no dtype, so they are converted; an array of another dtype is a mistake.
    array = as_array(z, what, None if hasattr(z, "dtype") else np.float32)
    _check_float32(array, what)
    if array.shape == latent_shape:
        array = array[None]
    elif array.ndim == 2 and array.shape[1] == prod(latent_shape):
        array = array.reshape(-1, *latent_shape)
    if array.shape[1:] != latent_shape:
        sizes = ", ".join(map(str, latent_shape))
        raise InputError(f"{what}: shape {list(array.shape)}, expected [N, {sizes}]")
    return np.ascontiguousarray(array)


def _refuse_paths(array: NDArray[Any]) -> None:
    """Refuse file names and the bytes of files, with advice."""
    if array.dtype.kind in "US" or _holds_paths(array):
        first = array.flat[0] if array.size else ""
        raise InputError(
            f"images: {str(first)[:100]!r} is text or a path, expected an array. "
            "Read the file first: vae_runtime.images.read_image(path)"
        )


def _holds_paths(array: NDArray[Any]) -> bool:
    return array.dtype == object and array.size > 0 and isinstance(array.flat[0], PathLike)


def as_array(value: Any, what: str, dtype: type[np.float32] | None = None) -> NDArray[Any]:
    """Convert an argument to an array; numbers that are too large for `dtype` become infinite."""
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
    # mask. If the squares overflow, the mask decides.
    return isfinite(np.vdot(array, array)) or bool(np.isfinite(array).all())


def _to_nchw(array: NDArray[Any], spec: ImageShape) -> NDArray[Any]:
    """Arrange images as N×C×H×W; if a shape fits two layouts, the first match below is used."""
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
