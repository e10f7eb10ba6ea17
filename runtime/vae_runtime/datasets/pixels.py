"""Turn arrays of images, as people store them, into bytes [N, C, H, W]."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..images import Decoded, compose

_TOLERANCE = 1e-3  # of floats around [0, 1], which resampling may leave slightly
_LARGEST = 65_535


def to_bytes(
    images: NDArray[Any],
    where: str,
    size: tuple[int, int] | None = None,
    *,
    alpha: bool = False,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Convert images to u8[N, C, H, W], and describe each change in one line.

    Args:
        images: [N, H, W], [N, C, H, W] or [N, H, W, C], or [N, C·H·W] if `size` is given. The
            values are booleans, integers from 0 to 1, 255 or 65,535, or floats in [0, 1]. Two and
            four channels are grey or colour with opacity.
        where: the start of every error message.
        size: (H, W) of images that are stored as rows of numbers.
        alpha: keep two and four channels; by default, transparent parts are placed over black or
            white.

    Raises:
        InputError: the array has another shape, dtype or range; the message says what to do.
    """
    images = _to_nchw(images, where, size)
    pixels, notes = _scale(images, where)
    if pixels.shape[1] in (2, 4) and not alpha:
        pixels, opacity = _without_alpha(pixels)
        notes += opacity
    return np.ascontiguousarray(pixels), notes


def _to_nchw(images: NDArray[Any], where: str, size: tuple[int, int] | None) -> NDArray[Any]:
    shape = list(images.shape)
    if images.dtype.kind not in "fiub":
        raise InputError(f"{where}: images are {images.dtype}, expected uint8 or float in [0, 1]")
    if images.ndim == 2:
        return _rows_to_images(images, where, size)
    if images.ndim not in (3, 4) or not images.size:
        raise InputError(
            f"{where}: images are {shape}, expected at least one image in 3 or 4 dimensions"
        )
    if images.ndim == 3 and shape[2] in (3, 4) and min(shape[:2]) >= 16:
        raise InputError(
            f"{where}: images are {shape}, which looks like one colour image, expected [N, H, W, C]"
        )
    if images.ndim == 3:
        return images[:, None]
    first, last = shape[1], shape[3]
    # Three channels are more common than two or four, and channels come last in most tools but
    # torch; a first axis of 1 or 3 is taken for channels because torch users store such arrays.
    for likely in ((1, 3), (2, 4)):
        if first in likely:
            return images
        if last in likely:
            return images.transpose(0, 3, 1, 2)
    raise InputError(
        f"{where}: images are {shape}, expected 1 to 4 channels in the second or the last axis"
    )


def _rows_to_images(rows: NDArray[Any], where: str, size: tuple[int, int] | None) -> NDArray[Any]:
    n, length = rows.shape
    for channels in (1, 3):
        side = int((length // channels) ** 0.5)
        if size and channels * size[0] * size[1] == length:
            return rows.reshape(n, channels, *size)
        if not size and length >= 64 and channels * side * side == length:
            raise InputError(
                f"{where}: images are {[n, length]}, rows of {length} numbers. If each row is an "
                f"image of {side}x{side} pixels, use --size {side}x{side}."
            )
    raise InputError(
        f"{where}: images are {[n, length]}, rows of {length} numbers. Vectors and series train as "
        f"images of one row: scale them to [0, 1], store them as [{n}, 1, {length}] and use "
        "--backbone mlp."
    )


def _scale(images: NDArray[Any], where: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Convert values of any accepted dtype and range to bytes from 0 to 255."""
    low, high = images.min(), images.max()
    kind = images.dtype.kind
    if kind == "f":
        return _scale_floats(images, float(low), float(high), where), []
    if kind == "b" or (low >= 0 and high == 1):
        return images.astype(np.uint8) * np.uint8(255), ["0 and 1 are read as black and white"]
    if low < 0 or high > _LARGEST:
        raise InputError(
            f"{where}: {images.dtype} images run from {low} to {high}, expected 0 to 255 or 0 to "
            f"{_LARGEST}. Scale them to float32 in [0, 1]."
        )
    if high <= 255:
        return images.astype(np.uint8, copy=False), []
    bits = int(high).bit_length()
    if bits < 14:
        raise InputError(
            f"{where}: {images.dtype} images run from {low} to {high}, which looks like {bits} "
            f"bits. Divide them by {2**bits - 1}, or by {_LARGEST} if they are dark images of 16 "
            "bits, and store float32."
        )
    wide = images.astype(np.uint32)
    return ((wide + 128) // 257).astype(np.uint8), ["16 bits are rounded to 8"]


def _scale_floats(images: NDArray[Any], low: float, high: float, where: str) -> NDArray[np.uint8]:
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:  # both are false for a NaN
        levels: NDArray[np.uint8] = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
        return levels
    seen = f"{where}: float images run from {low:g} to {high:g}, expected"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{seen} finite numbers in [0, 1]. Remove NaN and infinity.")
    if low >= 0 and 128 <= high <= 255:
        raise InputError(f"{seen} [0, 1]. Divide by 255, or store uint8.")
    if low >= 0 and high < 128:
        raise InputError(f"{seen} [0, 1]. Divide by the level of white, such as {high:g} or 255.")
    if low >= -1 - _TOLERANCE and high <= 1 + _TOLERANCE:
        raise InputError(f"{seen} [0, 1]. Store (images + 1) / 2.")
    raise InputError(
        f"{seen} [0, 1]. If they were normalised, undo it: images * std + mean; else store "
        "(images - min) / (max - min), with the same min and max for all images."
    )


def _without_alpha(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[str]]:
    """Read the last of two or four channels as opacity."""
    colour, alpha = pixels[:, :-1], pixels[:, -1]
    kind = "grey" if len(pixels[0]) == 2 else "colour"
    note = f"{pixels.shape[1]} channels are read as {kind} and opacity"
    if (alpha == 255).all():
        return colour, [note]
    over_black = ((colour.astype(np.uint32) * alpha[:, None] + 127) // 255).astype(np.uint8)
    composed, changes = compose(
        [Decoded(image, opacity) for image, opacity in zip(over_black, alpha, strict=True)]
    )
    return np.stack(composed), [note, *changes]
