"""Read data sets from `.npz` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFound
from ..files.npz import NUMBERS, TEXT, read_npz
from ..files.reading import read_bytes
from .dataset import Dataset
from .idx import MAX_BYTES

_MAX_CLASSES = 65_536


def load_npz(path: Path, split: str) -> Dataset:
    """Read `images`, `labels` and `classes`; for the test split, `test_images` and `test_labels`.

    Images are [N, H, W], [N, C, H, W] or [N, H, W, C], as bytes or as floats in [0, 1], which are
    rounded to bytes. Labels are optional. Without `classes`, the class names are the numbers from 0
    to the largest label in either split.

    Raises:
        NotFound: the file does not exist, or has no images for this split.
        FileError: the file cannot be read.
        InputError: not an `.npz` of plain arrays, or an array has a wrong dtype, shape or range.
        LimitError: the arrays exceed 4 GiB.
    """
    arrays = read_npz(read_bytes(path, max_bytes=MAX_BYTES), str(path), NUMBERS + TEXT, MAX_BYTES)
    prefix = "" if split == "train" else "test_"
    if f"{prefix}images" not in arrays:
        raise NotFound(f"{path}: no array '{prefix}images'; it has {', '.join(arrays) or 'none'}")
    images = _to_bytes(arrays[f"{prefix}images"], path)
    labels = arrays.get(f"{prefix}labels")
    if labels is None:
        return Dataset(path.stem, images)
    indices = _check_labels(labels, path)
    if len(indices) != len(images):
        raise InputError(f"{path}: {len(indices)} labels for {len(images)} images")
    return Dataset(path.stem, images, indices, _classes(arrays, path))


def _check_labels(labels: NDArray[Any], path: Path) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
        raise InputError(f"{path}: labels are {labels.dtype}{list(labels.shape)}, expected int[N]")
    if labels.min() < 0 or labels.max() >= _MAX_CLASSES:
        raise InputError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, "
            f"expected 0 to {_MAX_CLASSES - 1}"
        )
    return labels.astype(np.int64)


def _classes(arrays: dict[str, NDArray[Any]], path: Path) -> tuple[str, ...]:
    """Return the file's class names, or else 0 to the largest label in either split."""
    names = arrays.get("classes")
    if names is not None:
        if names.ndim != 1:
            raise InputError(f"{path}: classes are {list(names.shape)}, expected one name each")
        return tuple(str(name) for name in names)
    splits = [arrays[name] for name in ("labels", "test_labels") if name in arrays]
    largest = max(int(_check_labels(labels, path).max()) for labels in splits)
    return tuple(str(k) for k in range(largest + 1))


def _to_bytes(images: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Convert images of any accepted layout and dtype to u8[N, C, H, W]."""
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or not images.size:
        raise InputError(
            f"{path}: images are {list(images.shape)}, expected at least one image in 3 or 4 "
            "dimensions"
        )
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype.kind == "f":
        if not (images.min() >= 0 and images.max() <= 1):  # both are false for a NaN
            raise InputError(
                f"{path}: float images run from {images.min():g} to {images.max():g}, expected "
                "finite numbers in [0, 1]. Divide pixels of 0 to 255 by 255."
            )
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise InputError(f"{path}: images are {images.dtype}, expected uint8 or float in [0, 1]")
    return np.ascontiguousarray(images)
