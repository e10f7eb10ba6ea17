"""Rows of originals with what became of them below, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def interleave(layers: list[NDArray[Any]], columns: int) -> tuple[NDArray[Any], int]:
    """Lay several sets of N×C×H×W under each other, `columns` at a time.

    Returns:
        The images in the order of a grid, the last rows filled up with black, and its columns.
    """
    n, shape = len(layers[0]), layers[0].shape[1:]
    columns = min(columns, n)
    rows = -(-n // columns)
    cells = np.zeros((rows, len(layers), columns, *shape), np.float32)
    for k, images in enumerate(layers):
        padded = np.zeros((rows * columns, *shape), np.float32)
        padded[:n] = images
        cells[:, k] = padded.reshape(rows, columns, *shape)
    return cells.reshape(-1, *shape), columns
