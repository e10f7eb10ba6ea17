"""What every reader returns: bytes for pixels, class indices, class names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .lazy import LazyImages


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size.

    Attributes:
        name: what the data set is called in reports and manifests.
        images: u8[N, C, H, W], 0 to 255; or what stands for it and reads it where it is used.
        labels: i64[N], an index into `classes`; None where the data has no labels.
        classes: the name of each class; empty where the data has no labels.

    Raises:
        InputError: no images, or labels and classes that do not fit them.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

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
        """The same data set with only the images at `index`, in that order; reads nothing."""
        labels = None if self.labels is None else self.labels[index]
        images: Any = self.images
        lazy = isinstance(images, LazyImages)
        taken: Any = images.take(index) if lazy else images[index]
        return Dataset(self.name, taken, labels, self.classes)

    def read(self) -> Dataset:
        """The same data set with its images in memory."""
        return replace(self, images=np.asarray(self.images))

    def pieces(self, rows: int = 4096) -> Iterator[NDArray[np.uint8]]:
        """All images in their order, some at a time, u8[n, C, H, W]."""
        for start in range(0, len(self), rows):
            yield self.images[start : start + rows]
