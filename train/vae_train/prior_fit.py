"""Fit the latent prior to the latents of the training data.

Sampling from this prior, instead of from N(0, I), closes the gap between the prior and the
aggregate posterior, and makes a plain AE generative (Ghosh et al. 2020, arXiv 1903.12436).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models import CVAE, VAE, ModelConfig
from vae_models.vae import sample_posterior
from vae_runtime.errors import UsageError
from vae_runtime.prior import KINDS, Prior

from .config import TrainConfig
from .data import ImageSource
from .objective import Model
from .subspace import fit_subspace

Floats = NDArray[np.float64]

MAX_FULL = 256  # dimensions; mixtures of more are in a subspace, see `subspace.py`
LINE_S = 30.0  # seconds between lines about the progress, where there is no progress bar
_MAX_LATENTS = 20_000  # to which one mixture is fitted
# Limits on the total count of numbers in all mixtures, which every exported graph stores as text.
_MAX_NUMBERS = 1_000_000
_MAX_PICKED_NUMBERS = 32_000  # if the number of components is chosen automatically
_TAIL = 0.05  # fraction of each class's latents (the least likely) that its mixture ignores
_TAIL_COMPONENTS = 5  # of the mixture that determines which latents are least likely
_CANDIDATES = (1, 3, 5, 10, 15, 20, 30, 60)  # numbers of components to try
_MIN_GAIN = 0.01  # minimum gain from more components, in nats per held-out latent vector
_HELD_OUT = 0.1
_RIDGE = 3e-3  # added to each variance, relative to the variance of its dimension
_TOLERANCE = 2e-3  # nats per latent vector; smaller gains do not carry over to held-out latents


@dataclass(frozen=True)
class FittedPrior:
    """A prior and a measure of how well it explains held-out latents.

    Attributes:
        prior: the prior.
        held_out_log_likelihood: mean log-likelihood of held-out latents, in nats per latent vector;
            for `class_gmm`, averaged over its mixtures. These latents are sampled in the same way
            as those that the prior is fitted to.
    """

    prior: Prior
    held_out_log_likelihood: float | None = None


@torch.no_grad()
def sample_latents(
    model: Model, data: ImageSource, seed: int, *, labelled: bool = True, spread: float = 1.0
) -> Floats:
    """Sample one z per image from its posterior; for an AE, encode the image. Return f64[N, D].

    Args:
        model: a trained model.
        data: the images.
        seed: seed for the samples.
        labelled: whether to pass the labels to the encoder of a CVAE.
        spread: factor applied to the posterior standard deviation; 0 returns the means.
    """
    model.eval()
    noise = torch.Generator(data.device).manual_seed(seed)
    latents = []
    for image, label in data.batches(256):
        if isinstance(model, VAE):
            labels = (label if labelled else None,) if isinstance(model, CVAE) else ()
            mu, log_var = model.encode(image, *labels)
            z = torch.lerp(mu, sample_posterior(mu, log_var, noise), spread)
        else:
            z = model.encode(image)
        latents.append(z.double().cpu())
    return torch.cat(latents).numpy()


def check_prior(kind: str, components: int | None, config: ModelConfig) -> str:
    """Check that a prior can be fitted to this model's latents and stored in a checkpoint.

    Returns:
        The kind of prior, which is never `auto`.

    Raises:
        UsageError: the kind is unknown, or requires labels that the model does not have;
            `components` is set for a prior without components; or the prior is too large for a
            checkpoint.
    """
    if kind not in ("auto", *KINDS):
        raise UsageError(f"prior is {kind!r}, expected one of {('auto', *KINDS)}")
    if kind == "class_gmm" and config.family != "cvae":
        raise UsageError(f"prior class_gmm needs a cvae, this is {config.family!r}")
    if kind == "auto":
        kind = "class_gmm" if config.family == "cvae" else "gmm"
    if kind in ("normal", "uniform", "gaussian"):
        if components is not None:
            raise UsageError(
                f"components is {components}, but prior {kind} has none. Use --prior gmm."
            )
        if kind != "gaussian":
            return kind
    dim, rows = min(config.latent_dim, MAX_FULL), config.classes + 1 if kind == "class_gmm" else 1
    numbers = rows * (components or 1) * _numbers_per_component(dim)
    if numbers > _MAX_NUMBERS:
        raise UsageError(
            f"prior {kind} of {config.latent_dim} dimensions has {numbers:,} numbers, expected at "
            f"most {_MAX_NUMBERS:,}. Use --prior normal, or smaller --components or --latent-dim."
        )
    return kind


def _numbers_per_component(dim: int) -> int:
    """Count the numbers in a weight, a mean, and the lower triangle of a covariance."""
    return 1 + dim + dim * (dim + 1) // 2


def fit_prior(
    model: Model,
    data: ImageSource,
    kind: str = "auto",
    components: int | None = None,
    seed: int = 0,
    spread: float = TrainConfig.prior_spread,
    log: Callable[[str], None] = lambda text: None,
) -> FittedPrior:
    """Fit a prior of `kind` to the latents of `data`.

    For `class_gmm`, the least likely 5% of each class's latents are ignored; `_without_tail`
    explains why.

    Args:
        model: a trained model.
        data: its training images.
        kind: `auto` (`class_gmm` for a CVAE, else `gmm`) or one of `vae_runtime.prior.KINDS`.
        components: number of Gaussians in each mixture, reduced if there are fewer latents; None
            picks the number by the likelihood of held-out latents.
        seed: seed for the posterior samples and the fit.
        spread: factor applied to the posterior standard deviation when latents are sampled. With 1,
            samples are blurrier than reconstructions (which decode the posterior mean); with a
            smaller factor, the prior explains the latents of new images less well.
        log: called every half minute with a line about the progress.

    Raises:
        UsageError: `check_prior` rejects the prior, or the latents are not finite.
    """
    kind = check_prior(kind, components, model.config)
    dim = model.config.latent_dim
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    subset = _random_subset(data, seed)
    z = sample_latents(model, subset if kind in ("gaussian", "gmm") else data, seed, spread=spread)
    if not np.isfinite(z).all():
        raise UsageError("training diverged: the latents are not finite. Lower the learning rate.")
    groups = [z]
    if kind == "class_gmm":
        if data.labels is None:
            raise UsageError("prior class_gmm needs labelled images")
        label = data.labels.cpu().numpy()
        groups = [z[label == k] for k in range(model.config.classes)]
        groups = [group if len(group) else z for group in groups]
        unlabelled = z
        if model.encoder_labels is not None:
            unlabelled = sample_latents(model, subset, seed, labelled=False, spread=spread)
        groups.append(unlabelled)
    return fit_latents(groups, kind, components, seed, log)


def fit_latents(
    groups: list[Floats],
    kind: str,
    components: int | None = None,
    seed: int = 0,
    log: Callable[[str], None] = lambda text: None,
) -> FittedPrior:
    """Fit a prior of `kind` to latents from any model.

    Above 256 dimensions, mixtures are fitted to the coordinates along the principal directions, and
    the result is N(0, I) if that explains held-out latents better.

    Args:
        groups: a single array f64[n, D]; for `class_gmm`, one array per class, followed by an array
            of latents encoded without a label.
        kind: one of `vae_runtime.prior.KINDS`.
        components: number of Gaussians in each mixture; None picks the number by held-out
            likelihood.
        seed: seed of the fit.
        log: called every half minute with a line about the progress.
    """
    dim = groups[0].shape[1]
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    if kind == "uniform":
        z = groups[0]
        return FittedPrior(Prior("uniform", dim, low=z.min(0), high=z.max(0)))
    if dim > MAX_FULL:
        subspace = fit_subspace(groups[-1], seed)
        if subspace is None:
            return FittedPrior(Prior.normal(dim))
        within = [subspace.project(group) for group in groups]
        prior = fit_latents(within, kind, components, seed, log).prior
        low_rank = {name: getattr(subspace, name) for name in ("center", "directions", "residual")}
        return FittedPrior(replace(prior, latent_dim=dim, **low_rank))
    return _fit_mixtures(kind, groups, dim, 1 if kind == "gaussian" else components, seed, log)


def _random_subset(data: ImageSource, seed: int) -> ImageSource:
    """Select random images, at most as many as are used to fit one mixture."""
    if len(data) <= _MAX_LATENTS:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.select(order[:_MAX_LATENTS].to(data.device))


def _fit_mixtures(
    kind: str,
    groups: list[Floats],
    dim: int,
    components: int | None,
    seed: int,
    log: Callable[[str], None],
) -> FittedPrior:
    """Fit one mixture per group; pad the smaller ones with components of weight 0."""
    import sklearn.mixture  # noqa: F401 - the limit below applies to libraries already loaded
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    fitted: list[_Mixture] = []
    max_components = _MAX_PICKED_NUMBERS // (len(groups) * _numbers_per_component(dim))
    # The matrices are too small for multithreading: with two threads, the fit took 20 times as
    # long.
    with threadpool_limits(1):
        last_line = time.monotonic()
        for group in groups:
            if time.monotonic() - last_line > LINE_S:
                log(f"fitting the prior: {len(fitted)} of {len(groups)} mixtures")
                last_line = time.monotonic()
            # All mixtures are padded to the size of the largest. The mixture for latents without a
            # label must not enlarge the others.
            unlabelled = len(fitted) == len(groups) - 1
            if fitted and unlabelled:
                max_components = max(len(f.weights) for f in fitted)
            latents = rng.permutation(group)[:_MAX_LATENTS]
            tail = 0 if unlabelled else _TAIL
            fitted.append(_fit_mixture(latents, components, max_components, tail, seed))
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
    return FittedPrior(prior, float(np.mean([f.held_out_log_likelihood for f in fitted])))


@dataclass(frozen=True)
class _Mixture:
    """A fitted mixture of M Gaussians.

    Attributes:
        weights: f64[M].
        means: f64[M, D].
        factors: f64[M, D, D], the lower Cholesky factor of each covariance.
        held_out_log_likelihood: mean log-likelihood of held-out latents, in nats per latent vector.
    """

    weights: Floats
    means: Floats
    factors: Floats
    held_out_log_likelihood: float


def _fit_mixture(
    latents: Floats, components: int | None, max_components: int, tail: float, seed: int
) -> _Mixture:
    """Fit a mixture to one group of latents.

    Args:
        latents: f64[n, D] in random order; the first tenth is held out.
        components: number of Gaussians, or None to choose by held-out likelihood.
        max_components: upper limit on the chosen number.
        tail: fraction of the latents to ignore, the least likely first.
        seed: seed of the fit.
    """
    center, scale = latents.mean(0), latents.std(0)
    # A constant dimension gets a small scale instead of 0.
    scale = np.maximum(scale, 1e-3 * np.sqrt(np.mean(scale**2)) + 1e-9)
    unit = ((latents - center) / scale).astype(np.float32)
    unit = unit if len(unit) > 1 else np.repeat(unit, 2, 0)
    unit = _without_tail(unit, tail, seed)
    held_out = int(len(unit) * _HELD_OUT)
    training, test = unit[held_out:], unit[:held_out] if held_out else unit
    best: Any = None
    score = -np.inf
    for m in [min(components, len(training))] if components else _affordable(unit, max_components):
        mixture = _expectation_maximization(training, m, seed)
        test_score = float(mixture.score(test))
        if best is not None and test_score < score + _MIN_GAIN:
            break
        best, score = mixture, test_score
    factors = np.linalg.cholesky(best.covariances_.astype(np.float64))
    return _Mixture(
        best.weights_.astype(np.float64),
        best.means_ * scale + center,
        factors * scale[:, None],
        score - float(np.log(scale).sum()),
    )


def _affordable(latents: NDArray[np.float32], max_components: int) -> list[int]:
    """List the component counts to try; a full covariance needs several latents per dimension."""
    n, dim = latents.shape
    return [m for m in _CANDIDATES if m <= max_components and n >= 5 * m * dim] or [1]


def _without_tail(latents: NDArray[np.float32], tail: float, seed: int) -> NDArray[np.float32]:
    """Drop the fraction `tail` of the latents: those least likely under a small mixture.

    Within a class, these are mostly mislabelled or unreadable digits. A mixture would cover them
    with wide components, whose samples do not resemble any digit. Latents encoded without a label
    keep their tail, since that tail may be a rare class.
    """
    if len(latents) * tail < 1:
        return latents
    mixture = _expectation_maximization(latents, _affordable(latents, _TAIL_COMPONENTS)[-1], seed)
    likelihood = mixture.score_samples(latents)
    kept: NDArray[np.float32] = latents[likelihood > np.quantile(likelihood, tail)]
    return kept if len(kept) else latents


def _expectation_maximization(latents: NDArray[np.float32], m: int, seed: int) -> Any:
    """Fit `m` Gaussians (Dempster et al. 1977), starting from k-means."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(
        m, reg_covar=_RIDGE, max_iter=60, tol=_TOLERANCE, random_state=seed % 2**32
    )
    with warnings.catch_warnings():
        # A fit that has not converged, or has two identical components, is good enough.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(latents)
