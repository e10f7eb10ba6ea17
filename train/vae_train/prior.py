"""Fit the latent prior to the codes of the training data, with scikit-learn; plain arrays come out.

Sampling from a density fitted to the codes instead of N(0, I) closes the gap between the aggregate
posterior and the prior (Ghosh et al. 2020, arXiv 1903.12436), and makes a plain AE generative.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models import CVAE, VAE, ModelConfig
from vae_models.vae import reparameterise
from vae_runtime.errors import UsageError
from vae_runtime.prior import KINDS, Prior

from .data import Images
from .objective import Model

_CANDIDATES = (1, 3, 5, 10, 20, 30, 60)  # numbers of components that are tried
_GAIN = 0.01  # nats a code that more components must bring on held-out codes
_HELD_OUT = 0.1
_LARGEST = 20_000  # codes a mixture is fitted to
_MOST_NUMBERS = 32_000  # in all mixtures together: they travel as text in every exported graph
_RIDGE = 3e-3  # added to each variance, as a share of that dimension's own
_TOLERANCE = 2e-3  # nats a code: smaller gains stop a fit, and are lost on held-out codes anyway


@dataclass(frozen=True)
class FittedPrior:
    """A prior and, in nats a code, the mean log-likelihood of held-out codes under it.

    The mean runs over the mixtures of `class_gmm`, each weighing the same.
    """

    prior: Prior
    held_out_log_likelihood: float | None = None


@dataclass(frozen=True)
class _Mixture:
    """One fitted mixture of M Gaussians.

    Attributes:
        weights: f64[M].
        means: f64[M, D].
        factors: f64[M, D, D], the lower Cholesky factor of each covariance.
        score: mean log-likelihood of the held-out codes, in nats a code.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    factors: NDArray[np.float64]
    score: float


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


def check_kind(kind: str, config: ModelConfig) -> None:
    """Refuse a prior that cannot be fitted to the codes of this model.

    Raises:
        UsageError: an unknown kind, or `class_gmm` for a model without labels.
    """
    if kind not in ("auto", *KINDS):
        raise UsageError(f"prior is {kind!r}, expected one of {('auto', *KINDS)}")
    if kind == "class_gmm" and config.family != "cvae":
        raise UsageError(f"prior class_gmm needs a cvae, this is {config.family!r}")


def fit_prior(
    model: Model, data: Images, kind: str = "auto", components: int | None = None, seed: int = 0
) -> FittedPrior:
    """Fit a prior of `kind` to the codes of `data`.

    Args:
        model: trained.
        data: its training images.
        kind: `auto` (`class_gmm` for a CVAE, else `gmm`) or one of `vae_runtime.prior.KINDS`.
        components: Gaussians in each mixture, fewer where there are fewer codes; None picks the
            number by held-out likelihood.
        seed: of the posterior draws and of the fit.

    Raises:
        UsageError: see `check_kind`; or codes that are not finite.
    """
    check_kind(kind, model.config)
    dim = model.config.latent_dim
    if kind == "auto":
        kind = "class_gmm" if isinstance(model, CVAE) else "gmm"
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    z = codes(model, _some(data, seed) if kind in ("gaussian", "gmm") else data, seed)
    if not np.isfinite(z).all():
        raise UsageError("training diverged: codes are not finite. Lower the learning rate.")
    groups = [z]
    if kind == "class_gmm":
        if data.labels is None:
            raise UsageError("prior class_gmm needs labelled images")
        label = data.labels.cpu().numpy()
        groups = [z[label == k] for k in range(model.config.classes)]
        groups = [g if len(g) else z for g in groups]
        some = _some(data, seed)
        groups.append(
            z if model.encoder_labels is None else codes(model, some, seed, labelled=False)
        )
    return fit_codes(groups, kind, components, seed)


def fit_codes(
    groups: list[NDArray[np.float64]], kind: str, components: int | None = None, seed: int = 0
) -> FittedPrior:
    """Fit a prior of `kind` to codes that are there already, of any model.

    Args:
        groups: f64[n, D]; one, or for `class_gmm` one a class and then the codes without a label.
        kind: one of `vae_runtime.prior.KINDS`.
        components: Gaussians in each mixture; None picks the number by held-out likelihood.
        seed: of the fit.
    """
    dim = groups[0].shape[1]
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    if kind == "uniform":
        z = groups[0]
        return FittedPrior(Prior("uniform", dim, low=z.min(0), high=z.max(0)))
    return _mixtures(kind, groups, dim, 1 if kind == "gaussian" else components, seed)


def _some(data: Images, seed: int) -> Images:
    """As many images, drawn at random, as a mixture is fitted to."""
    if len(data) <= _LARGEST:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    index = order[:_LARGEST].to(data.pixels.device)
    return Images(data.pixels[index], None if data.labels is None else data.labels[index])


def _mixtures(
    kind: str, groups: list[NDArray[np.float64]], dim: int, components: int | None, seed: int
) -> FittedPrior:
    """One mixture a group, those of fewer components filled up with some of weight 0."""
    import sklearn.mixture  # noqa: F401 - the limit below holds for libraries already loaded
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    fitted: list[_Mixture] = []
    most = _MOST_NUMBERS // (len(groups) * (1 + dim + dim * (dim + 1) // 2))
    # Matrices of 16 by 16 are far too small to share: two threads took 20 times as long.
    with threadpool_limits(1):
        for group in groups:
            # All rows are stored as large as the largest; that without a label adds nothing to it.
            if fitted and len(fitted) == len(groups) - 1:
                most = max(len(f.weights) for f in fitted)
            fitted.append(_fit(rng.permutation(group)[:_LARGEST], components, most, seed))
    m = max(len(f.weights) for f in fitted)
    weights, mean = np.zeros((len(fitted), m)), np.zeros((len(fitted), m, dim))
    factors = np.tile(np.eye(dim), (len(fitted), m, 1, 1))
    for row, f in enumerate(fitted):
        weights[row, : len(f.weights)] = f.weights
        mean[row, : len(f.weights)] = f.means
        factors[row, : len(f.weights)] = f.factors
    lower = np.tril_indices(dim)
    packed = factors[:, :, lower[0], lower[1]]
    prior = Prior(kind, dim, weights=weights, mean=mean, cholesky=packed)
    return FittedPrior(prior, float(np.mean([f.score for f in fitted])))


def _fit(group: NDArray[np.float64], components: int | None, most: int, seed: int) -> _Mixture:
    """The mixture for one group of codes in random order, which is standardised first."""
    center, scale = group.mean(0), group.std(0)
    scale = np.maximum(scale, 1e-3 * np.sqrt(np.mean(scale**2)) + 1e-9)  # units that never fire
    unit = ((group - center) / scale).astype(np.float32)
    unit = unit if len(unit) > 1 else np.repeat(unit, 2, 0)
    held = int(len(unit) * _HELD_OUT)
    training, test = unit[held:], unit[:held] if held else unit
    # A full covariance wants several codes for each of its numbers.
    enough = [m for m in _CANDIDATES if m <= most and len(unit) >= 5 * m * unit.shape[1]]
    best: Any = None
    score = -np.inf
    for m in [min(components, len(training))] if components else enough or [1]:
        mixture = _em(training, m, seed)
        found = float(mixture.score(test))
        if best is not None and found < score + _GAIN:
            break
        best, score = mixture, found
    factors = np.linalg.cholesky(best.covariances_.astype(np.float64))
    return _Mixture(
        best.weights_.astype(np.float64),
        best.means_ * scale + center,
        factors * scale[:, None],
        score - float(np.log(scale).sum()),
    )


def _em(codes: NDArray[np.float32], m: int, seed: int) -> Any:
    """M Gaussians by expectation maximisation (Dempster et al. 1977), from a k-means start."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        m, reg_covar=_RIDGE, max_iter=60, tol=_TOLERANCE, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        # An unfinished fit is still a fit, as are two components in one place.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(codes)
