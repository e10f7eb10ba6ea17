"""The negative ELBO and its parts.

Sums over pixels and latent dimensions, means over the batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import log, pi
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import AE, CVAE, VAE
from vae_models.vae import draw

from .config import Objective, TrainConfig

Model = AE | VAE | CVAE


class Batch(NamedTuple):
    """What one step works on.

    Attributes:
        image: f32[N, C, H, W] in [0, 1], what the loss compares with.
        seen: as `image`, what the encoder sees: the same unless noise was added.
        label: i64[N], or None where the model has no labels.
        eps: f32[K, N, D], standard normal, what the latents are drawn with.
    """

    image: Tensor
    seen: Tensor
    label: Tensor | None
    eps: Tensor


class Terms(NamedTuple):
    """The parts of a loss.

    Attributes:
        reconstruction: f32[N], the mean over the K latents of an image.
        kl: f32[N, D], of each latent dimension; f32[N, 0] for an AE.
        bound: f32[N], the importance-weighted bound; None where K is 1.
    """

    reconstruction: Tensor
    kl: Tensor
    bound: Tensor | None = None

    def means(self) -> Terms:
        """Over the batch: reconstruction f32[], KL f32[D], bound f32[] or None."""
        bound = None if self.bound is None else self.bound.mean(0)
        return Terms(self.reconstruction.mean(0), self.kl.mean(0), bound)


class Pass(nn.Module):
    """One pass through a model and its objective: what is wrapped for several processes."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.objective: Objective = config.objective
        self.bf16 = config.precision == "bf16"

    def forward(self, batch: Batch, beta: float, variance: float) -> Terms:
        """The terms of each image.

        Args:
            batch: the images and the noise.
            beta: weight of the KL inside the importance-weighted bound.
            variance: of the pixels, for the `gaussian` objective.
        """
        model, draws = self.model, len(batch.eps)
        given = (batch.label,) if isinstance(model, CVAE) else ()
        device = batch.image.device.type
        with torch.autocast(device, torch.bfloat16) if self.bf16 else nullcontext():
            if isinstance(model, AE):
                logits = model.decode_logits(model.encode(batch.seen))
                error = reconstruction(logits, batch.image, self.objective, variance)
                return Terms(error, error.new_zeros(len(error), 0))
            mu, log_var = model.encode(batch.seen, *given)
            z = draw(mu, log_var, batch.eps)  # (K, N, D)
            repeated = (None if label is None else label.repeat(draws) for label in given)
            logits = model.decode_logits(z.flatten(0, 1), *repeated)  # (K·N, C, H, W)
        kl = kl_to_standard_normal(mu, log_var)
        if draws == 1:
            return Terms(reconstruction(logits, batch.image, self.objective, variance), kl)
        image = batch.image.repeat(draws, 1, 1, 1)
        error = reconstruction(logits, image, self.objective, variance).view(draws, -1)
        bound = importance_bound(error, beta * log_ratio(z, log_var, batch.eps))
        return Terms(error.mean(0), kl, bound)


def total(means: Terms, beta: float, free_bits: float = 0.0, spent: Tensor | None = None) -> Tensor:
    """The loss of a batch, one number: reconstruction + beta · KL, or the bound.

    Args:
        means: of the terms.
        beta: weight of the KL.
        free_bits: a dimension whose KL is below this many nats costs as much, whatever it spends.
        spent: f32[D], the KL of each dimension as a mean over the whole batch, where `means` are
            those of a part of it.
    """
    if means.bound is not None:
        return means.bound
    kl = means.kl
    if free_bits:
        spent = kl.detach() if spent is None else spent
        kl = torch.where(spent > free_bits, kl, free_bits)
    return means.reconstruction + beta * kl.sum()


def reconstruction(
    logits: Tensor, image: Tensor, objective: Objective, variance: float = 0.5
) -> Tensor:
    """-log p(image | z) in nats, for `mse` the squared error, of each image.

    Args:
        logits: f32[N, C, H, W], before the sigmoid.
        image: f32[N, C, H, W] in [0, 1].
        objective: which.
        variance: of the pixels, for `gaussian`.

    Returns:
        f32[N], summed over pixels.
    """
    logits = logits.float()  # the sums over pixels stay in float32 under autocast
    if objective == "bce":
        each = F.binary_cross_entropy_with_logits(logits, image, reduction="none")
        return each.sum((1, 2, 3))
    error = (torch.sigmoid(logits) - image).square().sum((1, 2, 3))
    return error if objective == "mse" else gaussian(error, image[0].numel(), variance)


def gaussian(error: Tensor, pixels: int, variance: float) -> Tensor:
    """-log N(image; decoded, variance) in nats, from the squared error summed over `pixels`."""
    return error / (2 * variance) + pixels / 2 * log(2 * pi * variance)


def mean_squared_error(nll: float, pixels: int, variance: float) -> float:
    """The squared error a pixel that `gaussian` gave `nll` for; its best variance is this."""
    return 2 * variance * (nll / pixels - log(2 * pi * variance) / 2)


def kl_to_standard_normal(mu: Tensor, log_var: Tensor) -> Tensor:
    """f32[N, D]: KL(N(mu, exp(log_var)) ‖ N(0, 1)); Kingma & Welling 2014, appendix B."""
    mu, log_var = mu.float(), log_var.float()
    return 0.5 * torch.addcmul(torch.expm1(log_var) - log_var, mu, mu)


def log_ratio(z: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Log N(z; 0, I) - log N(z; mu, exp(log_var)) for z = mu + exp(log_var / 2)·eps, f32[K, N]."""
    return 0.5 * (eps.square() + log_var.float() - z.float().square()).sum(-1)


def importance_bound(nll: Tensor, ratio: Tensor) -> Tensor:
    """f32[N]: -log of the mean over K of p(image | z)·p(z) / q(z | image); Burda et al. 2016.

    Args:
        nll: f32[K, N], -log p(image | z).
        ratio: f32[K, N], log p(z) - log q(z | image).
    """
    return log(len(nll)) - torch.logsumexp(ratio - nll, 0)
