"""Estimate log p(x) of a VAE, or log p(x | label) of a CVAE, by importance sampling, in nats.

The protocol of the published figures: each pixel of the test set is binarised once, to 1 with its
grey level's probability, and log p(x) is estimated with K posterior samples per image (Burda et al.
2015, arXiv 1509.00519, equation 8). The estimate is a lower bound that tightens as K grows.

K = 5,000 for all test images costs 50 million decoded images. The paired estimate uses a small K
for all images and adds what the large K gains on a random subset; both parts are reported.

p(x) is the integral over a prior: N(0, I), as in the published figures, or the fitted prior that
`sample` uses. The same posterior samples serve all requested priors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vae_models import CVAE, VAE
from vae_runtime.prior import Prior
from vae_train.data import Images

_BATCH = 500  # decoded images

Density = Callable[[Tensor, "Tensor | None"], Tensor]
"""(z f64[N, D], label i64[N] or None) → log p(z) or log p(z | label) in nats, f64[N]."""


def standard_normal(z: Tensor, label: Tensor | None) -> Tensor:
    """Compute log N(z; 0, I); the label is ignored."""
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


def density_of(prior: Prior) -> Density:
    """Return the log density of a prior made of Gaussians.

    If the prior has one mixture per class, the label selects it; without a label, the last is used.

    Raises:
        ValueError: the prior is `uniform`, whose density is 0 outside its box.
    """
    if prior.kind == "normal":
        return standard_normal
    if prior.weights is None or prior.mean is None or prior.cholesky is None:
        raise ValueError(f"prior {prior.kind}: its density is 0 outside a box, expected Gaussians")
    whiten, offset, constant = _whitening(prior)

    def density(z: Tensor, label: Tensor | None) -> Tensor:
        last = torch.full((len(z),), len(constant) - 1)
        row = last if label is None or prior.kind != "class_gmm" else label
        log_p = z.new_empty(len(z))
        for k in row.unique().tolist():
            chosen = row == k
            white = (z[chosen] @ whiten[k]).unflatten(1, offset[k].shape) - offset[k]
            log_p[chosen] = (constant[k] - white.square().sum(2) / 2).logsumexp(1)
        return log_p

    return density


def _whitening(prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
    """Prepare L⁻¹(z - mean) of all components of a mixture as one matrix product.

    Returns:
        L⁻¹ f64[R, D, M·D]; the offset L⁻¹·mean f64[R, M, D] to subtract; and the log weight minus
        the log normaliser of each component, f64[R, M].
    """
    dim = prior.latent_dim
    lower = np.tril_indices(dim)
    factor = torch.zeros(*prior.weights.shape, dim, dim, dtype=torch.float64)
    factor[:, :, lower[0], lower[1]] = torch.from_numpy(prior.cholesky)
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(dim, dtype=torch.float64).expand_as(factor), upper=False
    )
    offset = torch.einsum("rmij,rmj->rmi", inverse, torch.from_numpy(prior.mean))
    log_det = factor.diagonal(dim1=2, dim2=3).abs().log().sum(2)
    normaliser = log_det + dim / 2 * math.log(2 * math.pi)
    constant = torch.from_numpy(prior.weights).log() - normaliser
    return inverse.permute(0, 3, 1, 2).flatten(2).contiguous(), offset, constant


@dataclass(frozen=True)
class Likelihood:
    """An estimate of the mean negative log-likelihood of all images, in nats.

    Attributes:
        nll: the estimate with `many` samples per image: `nll_few` - `gain`.
        standard_error: of `nll` as an estimate of `many` samples for every image: the gain is
            measured on a subset, and the estimate with `few` samples is noisy. 0 if the subset is
            all images.
        nll_few: the estimate with `few` samples per image, over all images.
        gain: the reduction by `many` samples per image, over the subset.
        images, subset: the number of images.
        few, many: posterior samples per image.
    """

    nll: float
    standard_error: float
    nll_few: float
    gain: float
    images: int
    subset: int
    few: int
    many: int


def binarised(data: Images, seed: int) -> Images:
    """Set each pixel to 0 or to 255, the latter with its grey level's probability."""
    noise = torch.Generator().manual_seed(seed)
    return Images(torch.bernoulli(data.pixels / 255, generator=noise).byte() * 255, data.labels)


@torch.inference_mode()
def log_weights(
    model: VAE,
    image: Tensor,
    label: Tensor | None,
    samples: int,
    noise: torch.Generator,
    densities: Sequence[Density] = (standard_normal,),
) -> Tensor:
    """Compute log p(x, z) - log q(z | x) for posterior samples z, under each prior.

    Args:
        model: in evaluation mode.
        image: f32[N, C, H, W] of 0 and 1.
        label: i64[N] for a CVAE.
        samples: posterior samples per image.
        noise: the generator for them.
        densities: the log densities of P priors.

    Returns:
        f64[P, N, samples].
    """
    given = (label,) if isinstance(model, CVAE) else ()
    mu, log_var = (t.repeat_interleave(samples, 0) for t in model.encode(image, *given))
    eps = torch.randn(mu.shape, generator=noise)
    z = mu + (log_var / 2).exp() * eps
    # log N(z; mu, exp(log_var)), where (z - mu)² / exp(log_var) is eps².
    posterior = standard_normal(eps.double(), None) - log_var.double().sum(1) / 2
    owner = torch.arange(len(image)).repeat_interleave(samples)
    log_px = []
    for latents, of in zip(z.split(_BATCH), owner.split(_BATCH), strict=True):
        labels = (None if label is None else label[of],) if given else ()
        logits = model.decode_logits(latents, *labels)
        error = F.binary_cross_entropy_with_logits(logits, image[of], reduction="none")
        log_px.append(-error.flatten(1).sum(1, dtype=torch.float64))
    without_prior = torch.cat(log_px) - posterior
    labels_of_z = label[owner] if given and label is not None else None
    priors = torch.stack([density(z.double(), labels_of_z) for density in densities])
    return (priors + without_prior).view(len(densities), len(image), samples)


def log_mean_exp(values: Tensor) -> Tensor:
    """Compute log(mean(exp(values))) over the last axis."""
    return values.logsumexp(-1) - math.log(values.shape[-1])


def nll(
    model: VAE,
    data: Images,
    densities: Sequence[Density] = (standard_normal,),
    *,
    few: int = 100,
    many: int = 5000,
    subset: int = 100,
    seed: int = 0,
) -> list[Likelihood]:
    """Estimate the mean negative log-likelihood of `data`, under each prior.

    Args:
        model: a VAE, or a CVAE with labelled data.
        data: greyscale images; they are binarised with `seed`.
        densities: the log densities of the priors.
        few: posterior samples for every image.
        many: posterior samples for the images of the subset, a larger multiple of `few`.
        subset: how many random images get `many` samples. If all do, the estimate is the plain one
            with `many` samples.
        seed: for the binarisation, the subset and the samples.

    Raises:
        ValueError: `many` is not a larger multiple of `few`, or `subset` is not between 2 and the
            number of images.
    """
    if many % few or many == few or not 2 <= subset <= len(data):
        raise ValueError(f"few {few}, many {many}, subset {subset} of {len(data)} images")
    model.eval()
    images = binarised(data, seed)
    noise = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(data), generator=noise)[:subset]
    weights = [
        log_weights(model, *images.batch(index), many, noise, densities)[:, 0]
        for index in chosen.split(1)
    ]
    with_many = torch.stack([log_mean_exp(each) for each in weights], 1)
    # The same samples in groups of `few`. By Jensen the mean of the groups is never higher.
    groups = [log_mean_exp(each.view(len(densities), -1, few)) for each in weights]
    gains = with_many - torch.stack([each.mean(1) for each in groups], 1)
    noises = torch.stack([each.var(1) for each in groups], 1)
    with_few = with_many - gains
    if subset < len(data):
        batches = images.batches(max(1, _BATCH // few))
        found = [log_weights(model, *batch, few, noise, densities) for batch in batches]
        with_few = torch.cat([log_mean_exp(each) for each in found], 1)
    return [_paired(*one, few, many) for one in zip(with_few, gains, noises, strict=True)]


def _paired(with_few: Tensor, gains: Tensor, noises: Tensor, few: int, many: int) -> Likelihood:
    """Combine log p(x) with few samples, f64[N], and the gains and noise of the subset, f64[S]."""
    n, subset = len(with_few), len(gains)
    nll_few, gain = -float(with_few.mean()), float(gains.mean())
    # The subset is drawn without replacement; the groups show the noise of `few` samples.
    of_gain = float(gains.var()) / subset * (1 - subset / n)
    of_few = float(noises.mean()) / n if subset < n else 0.0
    error = math.sqrt(of_gain + of_few)
    return Likelihood(nll_few - gain, error, nll_few, gain, n, subset, few, many)
