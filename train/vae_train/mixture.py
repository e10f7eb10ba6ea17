"""A mixture of Gaussians for one group of latents, its size picked by held-out likelihood."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CANDIDATES = (1, 3, 5, 10, 15, 20, 30, 60)  # numbers of components that are tried
_GAIN = 0.01  # nats a code that more components must bring on held-out latents
_HELD_OUT = 0.1
_SMALL = 5  # components of the mixture that tells what is a tail
_RIDGE = 3e-3  # added to each variance, as a share of that dimension's own
_TOLERANCE = 2e-3  # nats a code: smaller gains stop a fit, and are lost on held-out latents anyway


@dataclass(frozen=True)
class Mixture:
    """One fitted mixture of M Gaussians.

    Attributes:
        weights: f64[M].
        means: f64[M, D].
        factors: f64[M, D, D], the lower Cholesky factor of each covariance.
        score: mean log-likelihood of the held-out latents, in nats a code.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    score: float


def fit_mixture(
    group: NDArray[np.float64], components: int | None, most: int, tail: float, seed: int
) -> Mixture:
    """Fit the mixture of one group of latents.

    Args:
        group: f64[n, D] in random order: the first tenth is held out.
        components: how many Gaussians, fewer where there are fewer latents; None picks the number by
            the likelihood of the held-out latents.
        most: the largest number that is picked.
        tail: share of the latents, the least likely ones, that are left out of both parts.
        seed: of the fit.
    """
    center, scale = group.mean(0), group.std(0)
    scale = np.maximum(scale, 1e-3 * np.sqrt(np.mean(scale**2)) + 1e-9)  # units that never fire
    unit = ((group - center) / scale).astype(np.float32)
    unit = unit if len(unit) > 1 else np.repeat(unit, 2, 0)
    unit = _without_tail(unit, tail, seed)
    held = int(len(unit) * _HELD_OUT)
    training, test = unit[held:], unit[:held] if held else unit
    best: Any = None
    score = -np.inf
    for m in [min(components, len(training))] if components else _affordable(unit, most):
        mixture = _em(training, m, seed)
        found = float(mixture.score(test))
        if best is not None and found < score + _GAIN:
            break
        best, score = mixture, found
    factors = np.linalg.cholesky(best.covariances_.astype(np.float64))
    return Mixture(
        best.weights_.astype(np.float64),
        best.means_ * scale + center,
        factors * scale[:, None],
        score - float(np.log(scale).sum()),
    )


def _affordable(latents: NDArray[np.float32], most: int) -> list[int]:
    """Numbers of components: a full covariance wants several latents for each of its numbers."""
    n, dim = latents.shape
    return [m for m in _CANDIDATES if m <= most and n >= 5 * m * dim] or [1]


def _without_tail(latents: NDArray[np.float32], tail: float, seed: int) -> NDArray[np.float32]:
    """The latents in their order, without the share `tail` that a small mixture finds least likely.

    In a class, those are digits with a wrong label or none that a reader would give them; a mixture
    spends wide components on them, which sample what is no digit at all. Codes without a label
    keep theirs: there, a rare class is what lies in the tail.
    """
    if len(latents) * tail < 1:
        return latents
    likely = _em(latents, _affordable(latents, _SMALL)[-1], seed).score_samples(latents)
    kept: NDArray[np.float32] = latents[likely > np.quantile(likely, tail)]
    return kept if len(kept) else latents


def _em(latents: NDArray[np.float32], m: int, seed: int) -> Any:
    """M Gaussians by expectation maximisation (Dempster et al. 1977), from a k-means start."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        m, reg_covar=_RIDGE, max_iter=60, tol=_TOLERANCE, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        # An unfinished fit is still a fit, as are two components in one place.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(latents)
