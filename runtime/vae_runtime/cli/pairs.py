"""Rows of originals with the rows of their reconstructions below."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def stack_pairs(above: NDArray[Any], below: NDArray[Any], columns: int) -> tuple[NDArray[Any], int]:
    """Interleave two sets of N×C×H×W by rows of `columns`; the last rows are filled with black.

    Returns:
        The images in the order of a grid, and its number of columns.
    """
    n = len(above)
    columns = min(columns, n)
    rows = -(-n // columns)
    cells = np.zeros((rows, 2, columns, *above.shape[1:]), above.dtype)
    for side, images in enumerate((above, below)):
        padded = np.zeros((rows * columns, *above.shape[1:]), above.dtype)
        padded[:n] = images
        cells[:, side] = padded.reshape(rows, columns, *above.shape[1:])
    return cells.reshape(-1, *above.shape[1:]), columns
