"""What every reader returns: bytes for pixels, class indices, class names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one size.

    Attributes:
        name: what the data set is called in reports and manifests.
        images: u8[N, C, H, W], 0 to 255.
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
        """The same data set with only the images at `index`, in that order."""
        labels = None if self.labels is None else self.labels[index]
        return Dataset(self.name, self.images[index], labels, self.classes)
