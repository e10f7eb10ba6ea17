"""Rounding weights to int8 so that the outputs change least, not the weights.

Each column has one scale. Rows are rounded one after another, and what rounding did to the output
is made good by the rows not yet rounded (OBQ and GPTQ: Frantar et al. 2022, arXiv 2208.11580 and
2210.17323). It needs inputs as the layer sees them, and no training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Seven of the eight bits: a CPU without VNNI adds two products in 16 bits, and saturates beyond;
# 2 * 255 * 63 < 2**15. So every CPU computes the same integers; it costs a decibel or two.
LEVELS = 63
_DAMPING = 0.01  # of the mean diagonal; keeps the inverse of a rank-poor matrix small


def round_columns(
    weight: NDArray[np.float32], inputs: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise one layer.

    Args:
        weight: f32[K, N].
        inputs: f32[M, K], what the layer multiplies in use.

    Returns:
        int8[K, N] and the scale of each column, f32[N].
    """
    largest = np.abs(weight).max(0)
    scale = (np.where(largest > 0, largest, 1) / LEVELS).astype(np.float32)
    order, factor = _plan(inputs.astype(np.float64))
    left = weight.astype(np.float64)[order]
    rounded = np.empty(left.shape, np.int8)
    for k in range(len(left)):
        rounded[k] = np.clip(np.rint(left[k] / scale), -LEVELS, LEVELS)
        error = (left[k] - rounded[k] * scale.astype(np.float64)) / factor[k, k]
        left[k + 1 :] -= factor[k, k + 1 :, None] * error
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return rounded[back], scale


def _plan(inputs: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The order of the rows, strongest inputs first, and the upper Cholesky factor of H⁻¹."""
    hessian = inputs.T @ inputs / len(inputs)
    diagonal = np.diag(hessian)
    hessian = hessian + (_DAMPING * diagonal.mean() + 1e-12) * np.eye(len(hessian))
    order = np.argsort(-diagonal, kind="stable")
    inverse = np.linalg.inv(hessian[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float64)
    return order, factor
