"""Fit the latent prior to the latents of the training data, with scikit-learn; plain arrays come out.

Sampling from a density fitted to the latents instead of N(0, I) closes the gap between the aggregate
posterior and the prior (Ghosh et al. 2020, arXiv 1903.12436), and makes a plain AE generative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vae_models import CVAE, VAE, ModelConfig
from vae_models.vae import reparameterise
from vae_runtime.errors import UsageError
from vae_runtime.prior import KINDS, Prior

from .config import TrainConfig
from .data import Rows
from .mixture import Mixture, fit_mixture
from .objective import Model

_TAIL = 0.05  # share of a class's latents, the least likely ones, that its mixture is not fitted to
_LARGEST = 20_000  # latents a mixture is fitted to
# In all mixtures together: they travel as text in every exported graph.
_MAX_NUMBERS = 32_000  # where the number of components is picked
_LARGEST_PRIOR = 1_000_000


@dataclass(frozen=True)
class FittedPrior:
    """A prior and, in nats a code, the mean log-likelihood of held-out latents under it.

    The mean runs over the mixtures of `class_gmm`, each weighing the same. The latents are those that
    the prior is meant for: see `fit_prior`.
    """

    prior: Prior
    held_out_log_likelihood: float | None = None


@torch.no_grad()
def latents(
    model: Model, data: Rows, seed: int, *, labelled: bool = True, spread: float = 1.0
) -> NDArray[np.float64]:
    """One posterior draw for each image (the code itself for an AE), f64[N, D].

    Args:
        model: trained.
        data: the images.
        seed: of the draws.
        labelled: whether a CVAE's encoder is told the labels.
        spread: scales the posterior's deviation; 0 gives the mean latents.
    """
    model.eval()
    noise = torch.Generator(data.device).manual_seed(seed)
    found = []
    for image, label in data.batches(256):
        if isinstance(model, VAE):
            given = (label if labelled else None,) if isinstance(model, CVAE) else ()
            mu, log_var = model.encode(image, *given)
            z = torch.lerp(mu, reparameterise(mu, log_var, noise), spread)
        else:
            z = model.encode(image)
        found.append(z.double().cpu())
    return torch.cat(found).numpy()


def check_prior(kind: str, components: int | None, config: ModelConfig) -> str:
    """Refuse a prior that cannot be fitted to the latents of this model, or not be kept.

    Returns:
        The kind, which is never `auto`.

    Raises:
        UsageError: an unknown kind, `class_gmm` for a model without labels, components of what has
            none, or more numbers than a checkpoint holds.
    """
    if kind not in ("auto", *KINDS):
        raise UsageError(f"prior is {kind!r}, expected one of {('auto', *KINDS)}")
    if kind == "class_gmm" and config.family != "cvae":
        raise UsageError(f"prior class_gmm needs a cvae, this is {config.family!r}")
    if kind == "auto":
        kind = "class_gmm" if config.family == "cvae" else "gmm"
    if kind in ("normal", "uniform", "gaussian"):
        if components is not None:
            raise UsageError(f"components is {components}, and prior {kind} has none. Use gmm.")
        if kind != "gaussian":
            return kind
    dim, rows = config.latent_dim, config.classes + 1 if kind == "class_gmm" else 1
    numbers = rows * (components or 1) * _numbers(dim)
    if numbers > _LARGEST_PRIOR:
        raise UsageError(
            f"prior {kind} of {dim} dimensions has {numbers:,} numbers, at most {_LARGEST_PRIOR:,} "
            "fit into a checkpoint. Use --prior normal, or less --components or --latent-dim."
        )
    return kind


def _numbers(dim: int) -> int:
    """Of one Gaussian: its weight, its mean, and half of its covariance."""
    return 1 + dim + dim * (dim + 1) // 2


def fit_prior(
    model: Model,
    data: Rows,
    kind: str = "auto",
    components: int | None = None,
    seed: int = 0,
    spread: float = TrainConfig.prior_spread,
) -> FittedPrior:
    """Fit a prior of `kind` to the latents of `data`.

    Of each class of `class_gmm`, the least likely 5% are left out (see `vae_train.mixture`).

    Args:
        model: trained.
        data: its training images.
        kind: `auto` (`class_gmm` for a CVAE, else `gmm`) or one of `vae_runtime.prior.KINDS`.
        components: Gaussians in each mixture, fewer where there are fewer latents; None picks the
            number by held-out likelihood.
        seed: of the posterior draws and of the fit.
        spread: of the posterior's deviation, how much the latents are drawn with. An image is decoded
            from its code's mean, and a prior as wide as the draws samples more blur than it has
            images to show for it; a narrower one explains the latents of new images worse.

    Raises:
        UsageError: see `check_prior`; or latents that are not finite.
    """
    kind = check_prior(kind, components, model.config)
    dim = model.config.latent_dim
    if kind == "normal":
        return FittedPrior(Prior.normal(dim))
    some = _some(data, seed)
    z = latents(model, some if kind in ("gaussian", "gmm") else data, seed, spread=spread)
    if not np.isfinite(z).all():
        raise UsageError("training diverged: latents are not finite. Lower the learning rate.")
    groups = [z]
    if kind == "class_gmm":
        if data.labels is None:
            raise UsageError("prior class_gmm needs labelled images")
        label = data.labels.cpu().numpy()
        groups = [z[label == k] for k in range(model.config.classes)]
        groups = [g if len(g) else z for g in groups]
        blind = model.encoder_labels is None
        groups.append(z if blind else latents(model, some, seed, labelled=False, spread=spread))
    return fit_latents(groups, kind, components, seed)


def fit_latents(
    groups: list[NDArray[np.float64]], kind: str, components: int | None = None, seed: int = 0
) -> FittedPrior:
    """Fit a prior of `kind` to latents that are there already, of any model.

    Args:
        groups: f64[n, D]; one, or for `class_gmm` one a class and then the latents without a label.
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


def _some(data: Rows, seed: int) -> Rows:
    """As many images, drawn at random, as a mixture is fitted to."""
    if len(data) <= _LARGEST:
        return data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.pick(order[:_LARGEST].to(data.device))


def _mixtures(
    kind: str, groups: list[NDArray[np.float64]], dim: int, components: int | None, seed: int
) -> FittedPrior:
    """One mixture a group, those of fewer components filled up with some of weight 0."""
    import sklearn.mixture  # noqa: F401 - the limit below holds for libraries already loaded
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    fitted: list[Mixture] = []
    most = _MAX_NUMBERS // (len(groups) * _numbers(dim))
    # Matrices of 16 by 16 are far too small to share: two threads took 20 times as long.
    with threadpool_limits(1):
        for group in groups:
            # All rows are stored as large as the largest; that without a label adds nothing to it.
            unlabelled = len(fitted) == len(groups) - 1
            if fitted and unlabelled:
                most = max(len(f.weights) for f in fitted)
            some = rng.permutation(group)[:_LARGEST]
            tail = 0 if unlabelled else _TAIL
            fitted.append(fit_mixture(some, components, most, tail, seed))
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
