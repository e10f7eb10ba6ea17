"""log p(x) of a VAE, log p(x | label) of a CVAE, by importance sampling, in nats.

The protocol of the published figures: each pixel of the test set is drawn once as 0 or 1 with its
grey level's probability, and log p(x) is estimated with K draws of the posterior (Burda et al.
2016, arXiv 1509.00519, equation 8). The estimate is a lower bound that tightens as K grows.

K = 5,000 for all test images costs 50 million decoded images. The paired estimate takes a small K
for all of them, and adds what the large K gains on a random subset; both parts are reported.

p(x) is the integral over a prior: N(0, I), as in the published figures, or the one that was fitted
and that `sample` draws from. The same draws serve all priors that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.quality.density import Density, standard_normal
from vae_models import CVAE, VAE
from vae_train.data import Images

_AT_ONCE = 500  # decoded images


@dataclass(frozen=True)
class Likelihood:
    """An estimate of the mean negative log-likelihood of all images, in nats.

    Attributes:
        nll: the estimate with `many` draws: `nll_few` - `gain`.
        standard_error: of `nll` against `many` draws for every image: the gain is measured on a
            subset, and `few` draws are noise. 0 where the subset is all.
        nll_few: with `few` draws an image, over all images.
        gain: by how much `many` draws lower it, over the subset.
        images, subset: how many.
        few, many: draws an image.
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
    """Each pixel 0 or 255, the latter with its grey level's probability."""
    noise = torch.Generator().manual_seed(seed)
    return Images(torch.bernoulli(data.pixels / 255, generator=noise).byte() * 255, data.labels)


@torch.inference_mode()
def log_weights(
    model: VAE,
    image: Tensor,
    label: Tensor | None,
    draws: int,
    noise: torch.Generator,
    densities: Sequence[Density] = (standard_normal,),
) -> Tensor:
    """log p(x, z) - log q(z | x) for `draws` latents of each image, under each prior.

    Args:
        model: in evaluation mode.
        image: f32[N, C, H, W] of 0 and 1.
        label: i64[N] for a CVAE.
        draws: of the posterior of each image.
        noise: what they are drawn with.
        densities: P priors.

    Returns:
        f64[P, N, draws].
    """
    given = (label,) if isinstance(model, CVAE) else ()
    mu, log_var = (t.repeat_interleave(draws, 0) for t in model.encode(image, *given))
    eps = torch.randn(mu.shape, generator=noise)
    z = mu + (log_var / 2).exp() * eps
    # log N(z; mu, exp(log_var)), where (z - mu)² / exp(log_var) is eps².
    posterior = standard_normal(eps.double(), None) - log_var.double().sum(1) / 2
    owner = torch.arange(len(image)).repeat_interleave(draws)
    found = []
    for latents, of in zip(z.split(_AT_ONCE), owner.split(_AT_ONCE), strict=True):
        labels = (None if label is None else label[of],) if given else ()
        logits = model.decode_logits(latents, *labels)
        error = F.binary_cross_entropy_with_logits(logits, image[of], reduction="none")
        found.append(-error.flatten(1).sum(1, dtype=torch.float64))
    given_z = torch.cat(found) - posterior
    whose = label[owner] if given and label is not None else None
    priors = torch.stack([density(z.double(), whose) for density in densities])
    return (priors + given_z).view(len(densities), len(image), draws)


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of exp over the last axis."""
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
        data: the grey images; they are binarised with `seed`.
        densities: of the priors.
        few: draws for every image.
        many: draws for the images of the subset, a multiple of `few` and larger.
        subset: how many images, drawn at random, get `many` draws; all of them make the estimate
            the plain one with `many` draws.
        seed: of the binarisation, the subset and the draws.

    Raises:
        ValueError: `many` is no larger multiple of `few`; a subset that is not 2 to all images.
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
    above = torch.stack([log_mean_exp(each) for each in weights], 1)
    # The same draws in groups of `few`: what the groups' mean lacks is never below 0.
    groups = [log_mean_exp(each.view(len(densities), -1, few)) for each in weights]
    gains = above - torch.stack([each.mean(1) for each in groups], 1)
    noises = torch.stack([each.var(1) for each in groups], 1)
    below = above - gains
    if subset < len(data):
        parts = images.batches(max(1, _AT_ONCE // few))
        found = [log_weights(model, *part, few, noise, densities) for part in parts]
        below = torch.cat([log_mean_exp(each) for each in found], 1)
    return [_paired(*of_one, few, many) for of_one in zip(below, gains, noises, strict=True)]


def _paired(below: Tensor, gains: Tensor, noises: Tensor, few: int, many: int) -> Likelihood:
    """What `few` draws give for all images, f64[N], and `many` gain on some of them, f64[S]."""
    n, subset = len(below), len(gains)
    nll_few, gain = -float(below.mean()), float(gains.mean())
    # The subset is drawn without replacement; the noise of `few` draws is that seen in the groups.
    of_gain = float(gains.var()) / subset * (1 - subset / n)
    of_few = float(noises.mean()) / n if subset < n else 0.0
    error = math.sqrt(of_gain + of_few)
    return Likelihood(nll_few - gain, error, nll_few, gain, n, subset, few, many)
