"""The negative ELBO and its two terms, per image.

Sums over pixels and latent dimensions; the caller averages over the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vae_models import Output

from .config import Objective


class Loss(NamedTuple):
    """Each f32[N]: `total` = `reconstruction` + beta · `kl`."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def loss(output: Output, image: Tensor, objective: Objective, beta: float) -> Loss:
    """The loss of each image; `image` is f32[N, C, H, W] in [0, 1]."""
    error = reconstruction(output.logits, image, objective)
    if output.mu is None or output.log_var is None:
        return Loss(error, error, torch.zeros_like(error))
    kl = kl_to_standard_normal(output.mu, output.log_var)
    return Loss(error + beta * kl, error, kl)


def reconstruction(logits: Tensor, image: Tensor, objective: Objective) -> Tensor:
    """f32[N]: -log p(image | z) of a Bernoulli for `bce`, squared error for `mse`."""
    logits = logits.float()  # the sums over pixels stay in float32 under autocast
    if objective == "bce":
        each = F.binary_cross_entropy_with_logits(logits, image, reduction="none")
    else:
        each = (torch.sigmoid(logits) - image).square()
    return each.flatten(1).sum(1)


def kl_to_standard_normal(mu: Tensor, log_var: Tensor) -> Tensor:
    """f32[N]: KL(N(mu, exp(log_var)) ‖ N(0, I)); Kingma & Welling 2014, appendix B."""
    mu, log_var = mu.float(), log_var.float()
    return 0.5 * (mu.square() + log_var.exp() - 1 - log_var).sum(1)
