"""The linear autoencoder that needs no training: principal components of the training pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class PCA:
    """The largest principal components, `axes` f32[K, P] with the largest first, around `mean`."""

    mean: Floats
    axes: Floats

    @classmethod
    def fit(cls, images: NDArray[np.uint8], components: int, seed: int) -> PCA:
        """From u8[N, C, H, W]; fewer components where there are fewer images or pixels."""
        from sklearn import decomposition

        rows = flat(images)
        found: Any = decomposition.PCA(min(components, *rows.shape), random_state=seed % 2**32)
        found.fit(rows)
        return cls(found.mean_.astype(np.float32), found.components_.astype(np.float32))

    def project(self, rows: Floats) -> Floats:
        """Pixels f32[N, P] → coordinates f32[N, K]."""
        coordinates: Floats = (rows - self.mean) @ self.axes.T
        return coordinates

    def error(self, rows: Floats, components: int) -> float:
        """Squared error a pixel of `rows` f32[N, P], kept to so many numbers an image."""
        centred = rows - self.mean
        axes = self.axes[:components]
        lost = np.square(centred, dtype=np.float64).sum()
        kept = np.square(centred @ axes.T, dtype=np.float64).sum()
        return float(max(0.0, lost - kept) / rows.size)


def flat(images: NDArray[np.generic]) -> Floats:
    """Images [N, C, H, W], u8 or f32 in [0, 1] → f32[N, C·H·W] in [0, 1]."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    return rows / np.float32(255) if images.dtype == np.uint8 else rows


def frechet(a: Floats, b: Floats) -> float:
    """Fréchet distance between Gaussians fitted to two sets f32[N, K] (Heusel et al. 2017).

    The trace of the matrix root is the sum of the roots of the eigenvalues of Σa·Σb.
    """
    mean = (a.mean(0) - b.mean(0)).astype(np.float64)
    first, second = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    roots = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None))
    return float(mean @ mean + np.trace(first) + np.trace(second) - 2 * roots.sum())
