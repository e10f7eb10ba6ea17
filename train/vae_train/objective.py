"""The training objective: the negative ELBO (evidence lower bound) and its terms.

All terms are summed over pixels and latent dimensions, and averaged over the batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import log, pi
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import AE, CVAE, VAE
from vae_models.vae import reparameterize
from vae_runtime.datasets import Dataset

from .config import Objective, TrainConfig

Model = AE | VAE | CVAE

_MAX_EXAMINED = 1_000  # images
# Contrast from which images count as ink: MNIST has 84%, KMNIST 78%, EMNIST 77%; the 8x8 digits
# have 67%, Fashion-MNIST 61% and CIFAR-10 25%.
_INK = 0.72


def pick_objective(data: Dataset) -> tuple[Objective, str]:
    """Choose the objective that suits the images: `bce` for ink and masks, else `gaussian`.

    Returns:
        The objective, and the reason in a few words.
    """
    step = -(-len(data) // _MAX_EXAMINED)
    pixels = data.take(slice(None, None, step)).images[:] / np.float32(255)
    mean, variance = float(pixels.mean()), float(pixels.var())
    # The variance is at most mean * (1 - mean), which only black and white pixels reach.
    contrast = variance / (mean * (1 - mean)) if 0 < mean < 1 else 1.0
    if contrast >= _INK:
        return "bce", f"the pixels are nearly all black or white (contrast {contrast:.0%})"
    return "gaussian", f"the pixels have shades between black and white (contrast {contrast:.0%})"


class Batch(NamedTuple):
    """The input of one training step.

    Attributes:
        image: f32[N, C, H, W] in [0, 1], the target of the loss.
        encoder_input: f32[N, C, H, W] in [0, 1]; `image` with or without added noise.
        label: i64[N], or None if the model has no labels.
        eps: f32[K, N, D], standard normal noise for K latent samples of each image.
    """

    image: Tensor
    encoder_input: Tensor
    label: Tensor | None
    eps: Tensor


class LossTerms(NamedTuple):
    """The terms of a loss, per image.

    Attributes:
        reconstruction: f32[N], averaged over the K latent samples of each image.
        kl: f32[N, D], per latent dimension; f32[N, 0] for an AE.
        bound: f32[N], the negative importance-weighted bound; None if K is 1.
    """

    reconstruction: Tensor
    kl: Tensor
    bound: Tensor | None = None

    def means(self) -> LossTerms:
        """Average over the batch: reconstruction f32[], KL f32[D], bound f32[] or None."""
        bound = None if self.bound is None else self.bound.mean(0)
        return LossTerms(self.reconstruction.mean(0), self.kl.mean(0), bound)


class LossModule(nn.Module):
    """A model and its objective in a single module, for `DistributedDataParallel` to wrap."""

    def __init__(self, model: Model, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.objective: Objective = config.objective
        self.bf16 = config.precision == "bf16"

    def forward(self, batch: Batch, beta: float, variance: float) -> LossTerms:
        """Compute the loss terms of each image.

        Args:
            batch: the images and the noise.
            beta: weight of the KL term inside the importance-weighted bound.
            variance: pixel variance under the `gaussian` objective.
        """
        model, samples = self.model, len(batch.eps)
        labels = (batch.label,) if isinstance(model, CVAE) else ()
        device = batch.image.device.type
        with torch.autocast(device, torch.bfloat16) if self.bf16 else nullcontext():
            if isinstance(model, AE):
                logits = model.decode_logits(model.encode(batch.encoder_input))
                error = reconstruction(logits, batch.image, self.objective, variance)
                return LossTerms(error, error.new_zeros(len(error), 0))
            mu, log_var = model.encode(batch.encoder_input, *labels)
            z = reparameterize(mu, log_var, batch.eps)  # (K, N, D)
            repeated = (None if label is None else label.repeat(samples) for label in labels)
            logits = model.decode_logits(z.flatten(0, 1), *repeated)  # (K·N, C, H, W)
        kl = kl_to_standard_normal(mu, log_var)
        if samples == 1:
            return LossTerms(reconstruction(logits, batch.image, self.objective, variance), kl)
        image = batch.image.repeat(samples, 1, 1, 1)
        error = reconstruction(logits, image, self.objective, variance).view(samples, -1)
        bound = importance_bound(error, beta * log_ratio(z, log_var, batch.eps))
        return LossTerms(error.mean(0), kl, bound)


def total_loss(
    means: LossTerms, beta: float, free_bits: float = 0.0, batch_kl: Tensor | None = None
) -> Tensor:
    """Combine the terms into the loss f32[]: the bound if any, else reconstruction + beta · KL.

    Args:
        means: means of the terms over the batch.
        beta: weight of the KL term.
        free_bits: amount of KL per latent dimension, in nats, that is not penalized: a smaller KL
            counts as this value and has no gradient.
        batch_kl: f32[D], the KL per dimension averaged over the whole batch, if `means` covers only
            the images of one process.
    """
    if means.bound is not None:
        return means.bound
    kl = means.kl
    if free_bits:
        batch_kl = kl.detach() if batch_kl is None else batch_kl
        kl = torch.where(batch_kl > free_bits, kl, free_bits)
    return means.reconstruction + beta * kl.sum()


def reconstruction(
    logits: Tensor, image: Tensor, objective: Objective, variance: float = 0.5
) -> Tensor:
    """Compute -log p(image | z) in nats per image; for `mse`, compute the squared error.

    Args:
        logits: f32[N, C, H, W], before the sigmoid.
        image: f32[N, C, H, W] in [0, 1].
        objective: the reconstruction term.
        variance: variance of the pixels, for `gaussian`.

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
    """Compute -log N(image; decoded, variance) in nats from the summed squared error `error`."""
    return error / (2 * variance) + pixels / 2 * log(2 * pi * variance)


def mean_squared_error(nll: float, pixels: int, variance: float) -> float:
    """Invert `gaussian`: return the squared error per pixel (the maximum-likelihood variance)."""
    return 2 * variance * (nll / pixels - log(2 * pi * variance) / 2)


def kl_to_standard_normal(mu: Tensor, log_var: Tensor) -> Tensor:
    """Compute KL(N(mu, exp(log_var)) ‖ N(0, 1)) per dimension, f32[N, D].

    Source: Kingma & Welling 2014, appendix B.
    """
    mu, log_var = mu.float(), log_var.float()
    return 0.5 * torch.addcmul(torch.expm1(log_var) - log_var, mu, mu)


def log_ratio(z: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Compute log N(z; 0, I) - log N(z; mu, exp(log_var)), f32[K, N].

    Here z = mu + exp(log_var / 2)·eps.
    """
    return 0.5 * (eps.square() + log_var.float() - z.float().square()).sum(-1)


def importance_bound(nll: Tensor, ratio: Tensor) -> Tensor:
    """Compute -log of the mean over K samples of p(image | z)·p(z) / q(z | image), f32[N].

    Source: Burda et al. 2015, arXiv 1509.00519.

    Args:
        nll: f32[K, N], -log p(image | z).
        ratio: f32[K, N], log p(z) - log q(z | image).
    """
    return log(len(nll)) - torch.logsumexp(ratio - nll, 0)
