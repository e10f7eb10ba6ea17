"""Fit the latent prior to the codes of the training data, with scikit-learn; plain arrays come out.

Sampling from a density fitted to the codes instead of N(0, I) closes the gap between the aggregate
posterior and the prior (Ghosh et al. 2020, arXiv 1903.12436), and makes a plain AE generative.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models import CVAE, VAE
from vae_models.vae import reparameterise
from vae_runtime.errors import UsageError
from vae_runtime.prior import Prior

from .data import Images
from .loop import Model

_CANDIDATES = (1, 3, 10, 30)  # numbers of components that are tried
_HELD_OUT = 0.1
_LARGEST = 20_000  # codes a mixture is fitted to


@dataclass(frozen=True)
class FittedPrior:
    """A prior and, in nats a code, the mean log-likelihood of held-out codes under it."""

    prior: Prior
    held_out_log_likelihood: float | None = None


@torch.no_grad()
def codes(model: Model, data: Images, seed: int, *, labelled: bool = True) -> NDArray[np.float64]:
    """One posterior draw for each image (the code itself for an AE), f64[N, D]."""
    model.eval()
    noise = torch.Generator(data.pixels.device).manual_seed(seed)
    found = []
    for image, label in data.batches(256):
        if isinstance(model, CVAE):
            z = reparameterise(*model.encode(image, label if labelled else None), noise)
        elif isinstance(model, VAE):
            z = reparameterise(*model.encode(image), noise)
        else:
            z = model.encode(image)
        found.append(z.double().cpu())
    return torch.cat(found).numpy()


def fit_prior(
    model: Model, data: Images, kind: str = "auto", components: int | None = None, seed: int = 0
) -> FittedPrior:
    """Fit a prior of `kind` to the codes of `data`.

    Args:
        model: trained.
        data: its training images.
        kind: `auto` (`class_gmm` for a CVAE, else `gmm`) or one of `vae_runtime.prior.KINDS`.
        components: Gaussians in each mixture; None picks the number by held-out likelihood.
        seed: of the posterior draws and of the fit.
    """
    dim = model.config.latent_dim
    if kind == "auto":
        kind = "class_gmm" if isinstance(model, CVAE) else "gmm"
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    z = codes(model, data, seed)
    if kind == "uniform":
        return FittedPrior(Prior("uniform", dim, low=z.min(0), high=z.max(0)))
    groups = [z]
    if kind == "class_gmm":
        if not isinstance(model, CVAE) or data.labels is None:
            raise UsageError(f"prior class_gmm needs a cvae, got {model.config.family}")
        label = data.labels.cpu().numpy()
        groups = [z[label == k] for k in range(model.config.classes)]
        groups = [g if len(g) else z for g in groups]
        groups.append(codes(model, data, seed, labelled=False))
    return _mixtures(kind, groups, dim, 1 if kind == "gaussian" else components, seed)


def _mixtures(
    kind: str, groups: list[NDArray[np.float64]], dim: int, components: int | None, seed: int
) -> FittedPrior:
    """One mixture a group, all of the same number of components."""
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(g)[:_LARGEST] for g in groups]
    smallest = min(len(g) for g in groups)
    # A full covariance wants several codes for each of its numbers.
    fitting = [m for m in _CANDIDATES if m == 1 or smallest >= 5 * m * dim]
    best, best_score = None, -np.inf
    for m in [components] if components else fitting:
        mixtures, score = _fit_all(groups, m, seed)
        if score <= best_score:
            break
        best, best_score = mixtures, score
    assert best is not None  # noqa: S101 - the first score is finite
    lower = np.tril_indices(dim)
    factors = [np.linalg.cholesky(g.covariances_)[:, lower[0], lower[1]] for g in best]
    prior = Prior(
        kind,
        dim,
        weights=np.stack([g.weights_ for g in best]),
        mean=np.stack([g.means_ for g in best]),
        cholesky=np.stack(factors),
    )
    return FittedPrior(prior, float(best_score))


def _fit_all(groups: list[NDArray[np.float64]], m: int, seed: int) -> tuple[list, float]:  # type: ignore[type-arg]
    """Mixtures of m Gaussians and the mean log-likelihood of the codes held out of each group."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixtures, scores = [], []
    for group in groups:
        held = int(len(group) * _HELD_OUT)
        ridge = 1e-6 + 1e-4 * float(group.var(0).mean())
        mixture = GaussianMixture(m, reg_covar=ridge, max_iter=60, tol=1e-3, random_state=seed)
        with warnings.catch_warnings():
            # An unfinished fit is still a fit; the held-out score judges it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(group[held:] if len(group) - held >= m else group)
        mixtures.append(mixture)
        scores.append(mixture.score(group[:held] if held else group))
    return mixtures, float(np.mean(scores))
