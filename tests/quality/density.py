"""log p(z) of latents under a prior, in nats: what a likelihood needs and sampling does not."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vae_runtime.prior import Prior

Density = Callable[[Tensor, "Tensor | None"], Tensor]
"""(z f64[N, D], label i64[N] or None) to log p(z) or log p(z | label), f64[N]."""


def standard_normal(z: Tensor, label: Tensor | None) -> Tensor:
    """log N(z; 0, I), whatever the label."""
    return -(z.square().sum(1) + z.shape[1] * math.log(2 * math.pi)) / 2


def density_of(prior: Prior) -> Density:
    """The density of a prior made of Gaussians, or N(0, I) itself.

    A label picks the mixture of its class where the prior has one a class; no label picks the last.

    Raises:
        ValueError: the prior is `uniform`: it is 0 outside its box.
    """
    if prior.kind == "normal":
        return standard_normal
    if prior.weights is None or prior.mean is None or prior.cholesky is None:
        raise ValueError(f"prior {prior.kind} has no density that a likelihood could use")
    whiten, offset, constant = _whitening(prior)

    def density(z: Tensor, label: Tensor | None) -> Tensor:
        last = torch.full((len(z),), len(constant) - 1)
        row = last if label is None or prior.kind != "class_gmm" else label
        found = z.new_empty(len(z))
        for k in row.unique().tolist():
            mine = row == k
            white = (z[mine] @ whiten[k]).unflatten(1, offset[k].shape) - offset[k]
            found[mine] = (constant[k] - white.square().sum(2) / 2).logsumexp(1)
        return found

    return density


def _whitening(prior: Prior) -> tuple[Tensor, Tensor, Tensor]:
    """What turns z into L⁻¹(z - mean) of every component with one product a mixture.

    Returns:
        f64[R, D, M·D], f64[R, M, D] that is taken away, and each component's log weight and
        log normaliser, f64[R, M].
    """
    assert prior.weights is not None
    assert prior.mean is not None
    assert prior.cholesky is not None
    dim = prior.latent_dim
    lower = np.tril_indices(dim)
    factor = torch.zeros(*prior.weights.shape, dim, dim, dtype=torch.float64)
    factor[:, :, lower[0], lower[1]] = torch.from_numpy(prior.cholesky)
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(dim, dtype=torch.float64).expand_as(factor), upper=False
    )
    offset = torch.einsum("rmij,rmj->rmi", inverse, torch.from_numpy(prior.mean))
    scale = factor.diagonal(dim1=2, dim2=3).abs().log().sum(2) + dim / 2 * math.log(2 * math.pi)
    constant = torch.from_numpy(prior.weights).log() - scale
    return inverse.permute(0, 3, 1, 2).flatten(2).contiguous(), offset, constant
