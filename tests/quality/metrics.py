"""Measures of samples on a classifier's features. Pure NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet(a: Features, b: Features) -> float:
    """Fréchet distance between Gaussians fitted to two sets f[N, F] (Heusel et al. 2017).

    The trace of the matrix root is the sum of the roots of the eigenvalues of Σa·Σb.
    """
    mean = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(cov_a @ cov_b).real, 0, None))
    return float(mean @ mean + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def precision_recall(real: Features, fake: Features, k: int = 3) -> tuple[float, float]:
    """Share of fakes within a real one's k-nearest-neighbour ball, and the reverse.

    Kynkäänniemi et al. 2019, arXiv 1904.06991.
    """
    return _covered(real, fake, k), _covered(fake, real, k)


def _covered(centres: Features, points: Features, k: int) -> float:
    radii = np.sort(_squared(centres, centres), axis=1)[:, k]
    return float((_squared(points, centres) <= radii[None]).any(axis=1).mean())


def _squared(a: Features, b: Features) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    both = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.maximum(both, 0)
