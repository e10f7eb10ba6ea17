"""A data set of images and labels, held in memory or read on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

MAX_BYTES = 4 << 30  # of one uncompressed file, or of all images of a folder


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size, with or without labels.

    Attributes:
        name: shown in reports and manifests.
        images: u8[N, C, H, W], 0 to 255; or `LazyImages`, which are read on demand.
        labels: i64[N], indices into `classes`; None if the data has no labels.
        classes: the name of each class; empty if the data has no labels.
        files: the path of each image; None if the images are not files.
        split: `train`, `val` or `test`; data without splits are `train`.
        part: the part of the source that the images are from, such as `train/`; empty if the source
            has only one.
        notes: one line for each thing that was left out or changed.

    Raises:
        InputError: there are no images, or the labels or classes do not fit them.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None
    split: str = "train"
    part: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or not self.images.size:
            raise InputError(
                f"{self.name}: images are {self.images.dtype}{list(self.images.shape)}, "
                "expected at least one image as uint8[N, C, H, W]"
            )
        if self.labels is not None:
            self._check_labels(self.labels)

    def _check_labels(self, labels: NDArray[np.int64]) -> None:
        if labels.ndim != 1 or len(labels) != len(self.images):
            raise InputError(
                f"{self.name}: labels {list(labels.shape)} for {len(self.images)} images"
            )
        if len(set(self.classes)) != len(self.classes):
            raise InputError(f"{self.name}: two classes of the same name")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InputError(
                f"{self.name}: labels run from {labels.min()} to {labels.max()}, "
                f"expected 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.images.shape[1:]
        return c, h, w

    def take(self, index: NDArray[np.intp] | slice) -> Dataset:
        """Select images in the order of `index`, without reading them."""
        labels = None if self.labels is None else self.labels[index]
        images: Any = self.images
        taken: Any = images.take(index) if isinstance(images, LazyImages) else images[index]
        files = self.files
        if files is not None:
            files = tuple(np.array(files, object)[index].tolist())
        return replace(self, images=taken, labels=labels, files=files)

    def read(self) -> Dataset:
        """Read all images into memory."""
        return replace(self, images=np.asarray(self.images))

    def batches(self, rows: int = 4096) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, at most `rows` at a time: u8[n, C, H, W]."""
        for start in range(0, len(self), rows):
            yield self.images[start : start + rows]


@dataclass(frozen=True)
class ReadOptions:
    """How to read a data set.

    Attributes:
        size: (H, W) to resize image files to, and the shape of images that are stored as rows of
            numbers; other data must have this size.
        mode: `L`, `LA`, `RGB` or `RGBA` to convert image files to; other data must have this mode.
            Without alpha, transparent parts are placed over black or white.
        alpha: keep two and four channels of arrays if there is no `mode`.
        limit: take at most this many images.
        lazy: read the images of Parquet and of uncompressed IDX files on demand.
        track: wraps an iterable of image files, given their number, to show progress.
    """

    size: tuple[int, int] | None = None
    mode: str | None = None
    alpha: bool = False
    limit: int | None = None
    lazy: bool = False
    track: Callable[[Iterable[Any], int], Iterable[Any]] = lambda files, total: files


Read = Callable[[NDArray[np.intp]], NDArray[np.uint8]]
"""A function that reads the images u8[n, C, H, W] of rows i[n], which may be in any order."""


def lazy_images(read: Read, shape: tuple[int, ...], n: int) -> NDArray[np.uint8]:
    """Return `LazyImages` of the first `n` rows; for type checkers, it is an array."""
    return cast("NDArray[np.uint8]", LazyImages(read, shape, np.arange(n)))


class LazyImages:
    """Images u8[N, C, H, W], read only when indexed or passed to `numpy.asarray`.

    Args:
        read: reads images by their stored row numbers.
        shape: (C, H, W).
        rows: i[N], the stored row number of each image.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, read: Read, shape: tuple[int, ...], rows: NDArray[np.intp]) -> None:
        self._read = read
        self._rows = rows
        self.shape = (len(rows), *shape)

    @property
    def size(self) -> int:
        """The number of values in the whole array."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: NDArray[np.intp] | slice) -> LazyImages:
        """Select images by index without reading them."""
        return LazyImages(self._read, self.shape[1:], self._rows[index])

    def __getitem__(self, index: NDArray[np.intp] | slice) -> NDArray[np.uint8]:
        return self._read(self._rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._read(self._rows), dtype)
