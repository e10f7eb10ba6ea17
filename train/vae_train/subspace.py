"""Fit the principal subspace of long latents, for priors that are low-rank plus diagonal.

A full covariance of 4,096 dimensions has eight million numbers. Instead, latents are described by
their coordinates along a few principal directions, which a mixture can model, and by independent
noise orthogonal to them (a probabilistic PCA with one noise variance per dimension, after Tipping &
Bishop 1999). One set of directions serves all mixtures and all classes, so that the prior stays
small, and so that a traversal can move along them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_NUMBERS = 140_000  # in the directions, the center and the residual: about 1.5 MB of text
_MAX_LATENTS = 2**25  # numbers in all latents to which the subspace is fitted
_CANDIDATES = (1, 2, 4, 8, 16, 32, 64)  # numbers of directions to try
_HELD_OUT = 0.1
_MIN_LATENTS = 8  # below this, N(0, I) is used
_SHRINKAGE = 20  # latents' worth of weight for the mean variance in each dimension's own
_MIN_VARIANCE = 1e-6  # of the residual, relative to the mean variance of the latents


@dataclass(frozen=True)
class Subspace:
    """The principal subspace of latents, and the noise orthogonal to it.

    Attributes:
        center: f64[D], the mean of the latents.
        directions: f64[K, D], orthonormal, the largest variance first.
        variances: f64[K], the variance along each direction.
        residual: f64[D], factors of the noise orthogonal to the directions.
    """

    center: Floats
    directions: Floats
    variances: Floats
    residual: Floats

    def project(self, z: Floats) -> Floats:
        """Return the coordinates f64[n, K] of latents f64[n, D]."""
        return np.asarray((z - self.center) @ self.directions.T)

    def log_likelihood(self, z: Floats) -> float:
        """Return the mean log-likelihood of latents f64[n, D], in nats per latent vector.

        The covariance is BᵀSB + R(I - BᵀB)R, with the directions B, the variances S and the
        residual R. It is inverted by the Woodbury identity.
        """
        b, r = self.directions, self.residual
        k, d = b.shape
        u = np.concatenate([b, b * r])  # the covariance is R² + uᵀ·diag(S, -I)·u
        inner = (u / r**2) @ u.T
        signs = np.concatenate([self.variances, -np.ones(k)])
        log_det = 2 * np.log(r).sum() + np.linalg.slogdet(np.eye(2 * k) + signs[:, None] * inner)[1]
        scaled = (z - self.center) / r
        along = scaled @ (u / r).T
        solved = np.linalg.solve(np.diag(1 / signs) + inner, along.T).T
        distance = np.square(scaled).sum(1) - (along * solved).sum(1)
        return float(-0.5 * (distance.mean() + log_det + d * np.log(2 * np.pi)))


def fit_subspace(z: Floats, seed: int = 0) -> Subspace | None:
    """Fit a subspace to latents f64[n, D]; its size has the highest held-out likelihood.

    Returns:
        None if N(0, I) explains held-out latents better, as it may if there are few latents.
    """
    n, d = z.shape
    if n < _MIN_LATENTS:
        return None
    order = np.random.default_rng(seed).permutation(n)[: max(2, _MAX_LATENTS // d)]
    latents = z[order]
    held_out = max(1, int(len(latents) * _HELD_OUT))
    training, test = latents[held_out:], latents[:held_out]
    most = max(1, min(MAX_NUMBERS // d - 2, d - 1, (len(training) - 1) // 2))
    sizes = [k for k in _CANDIDATES if k <= most]
    widest = _principal(training, sizes[-1], seed)
    found = [_with_residual(training, *widest, k) for k in sizes]
    likelihoods = [subspace.log_likelihood(test) for subspace in found]
    standard = -0.5 * (np.square(test).sum(1).mean() + d * np.log(2 * np.pi))
    best = int(np.argmax(likelihoods))
    return found[best] if likelihoods[best] > standard else None


def _principal(z: Floats, k: int, seed: int) -> tuple[Floats, Floats]:
    """Return the first k principal directions f64[k, D] and their variances f64[k]."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # the same bits on any number of cores
        pca = PCA(k, svd_solver="randomized", random_state=seed % 2**32).fit(z)
    return np.asarray(pca.components_, float), np.asarray(pca.explained_variance_, float)


def _with_residual(z: Floats, directions: Floats, variances: Floats, k: int) -> Subspace:
    """Keep k directions; fit the noise to what they leave of each dimension's variance."""
    center, b = z.mean(0), directions[:k]
    left = z - center - ((z - center) @ b.T) @ b
    least = _MIN_VARIANCE * float(z.var(0).mean()) + 1e-18
    # The noise loses its part along the directions, so it starts larger by that.
    own = left.var(0) / np.maximum(1 - (b**2).sum(0), 1e-3)
    shrunk = (len(z) * own + _SHRINKAGE * own.mean()) / (len(z) + _SHRINKAGE)
    residual = np.sqrt(np.maximum(shrunk, least))
    return Subspace(center, b, np.maximum(variances[:k], least), residual)
