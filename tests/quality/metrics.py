"""Measures of samples on a classifier's features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_train.report.measure import frechet as frechet

Features = NDArray[np.floating]


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
