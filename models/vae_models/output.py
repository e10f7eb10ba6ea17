"""The result of a forward pass; all families return the same type."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """The result of `forward`.

    Attributes:
        logits: f32[N, C, H, W], the decoded image before the sigmoid.
        z: f32[N, D], the decoded latents.
        mu: f32[N, D], the posterior mean; None for an AE.
        log_var: f32[N, D], the log variance of the posterior q(z | image); None for an AE.
    """

    logits: Tensor
    z: Tensor
    mu: Tensor | None = None
    log_var: Tensor | None = None
