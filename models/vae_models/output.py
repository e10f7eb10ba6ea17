"""What `forward` returns, the same for every family."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """One pass through a model.

    Attributes:
        logits: f32[N, C, H, W], the image before the sigmoid.
        z: f32[N, D], the code that was decoded.
        mu: f32[N, D], the mean code; None for an AE.
        log_var: f32[N, D], the log variance of q(z | image); None for an AE.
    """

    logits: Tensor
    z: Tensor
    mu: Tensor | None = None
    log_var: Tensor | None = None
