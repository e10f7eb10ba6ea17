"""Images that stay where they are stored until they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Read = Callable[[NDArray[np.intp]], NDArray[np.uint8]]
"""Rows i[n], in any order, to their images u8[n, C, H, W]."""


def lazy_images(read: Read, shape: tuple[int, ...], n: int) -> NDArray[np.uint8]:
    """The first `n` rows, unread: an array to all that a data set's images are used for."""
    return cast("NDArray[np.uint8]", LazyImages(read, shape, np.arange(n)))


class LazyImages:
    """Stands for u8[N, C, H, W]; indexing and `numpy.asarray` read, `take` does not.

    Args:
        read: reads rows from where they are stored.
        shape: (C, H, W).
        rows: i[N], which of the stored rows these are, in this order.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, read: Read, shape: tuple[int, ...], rows: NDArray[np.intp]) -> None:
        self._read = read
        self._rows = rows
        self.shape = (len(rows), *shape)

    @property
    def size(self) -> int:
        """Pixels in all."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, index: NDArray[np.intp] | slice) -> LazyImages:
        """The images at `index`, still unread."""
        return LazyImages(self._read, self.shape[1:], self._rows[index])

    def __getitem__(self, index: NDArray[np.intp] | slice) -> NDArray[np.uint8]:
        return self._read(self._rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._read(self._rows), dtype)
