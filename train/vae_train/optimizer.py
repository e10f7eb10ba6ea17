"""Adam (Kingma & Ba 2015, arXiv 1412.6980) without weight decay, with adaptive clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adam import adam

_NORM_DECAY = 0.98  # of the average gradient norm, over about 50 steps


class Adam:
    """Optimizer that equals `torch.optim.Adam(fused=True)` bit for bit, but has less overhead.

    `torch.optim.Adam` looks up each parameter's state and settings at every step, which for a small
    model costs more than the arithmetic. With torch's functional `adam` and the lists below, a step
    of the reference VAE at batch size 32 takes a fifth less CPU time (2.26 ms instead of 2.86 ms).

    Attributes:
        weights: the parameters, on one device.
        exp_avg: the moving averages of the gradients.
        exp_avg_sq: the moving averages of the squared gradients.
        steps: the number of steps taken, one f32[] per parameter; all are equal.
        norm: the moving average of the gradients' norm; None before the first step, and always
            without clipping.
    """

    def __init__(self, weights: Iterable[Tensor], eps: float, clip: float = 0.0) -> None:
        """Start at step 0.

        Args:
            weights: the parameters, on one device.
            eps: Adam's epsilon.
            clip: scale down gradients whose norm exceeds this multiple (above 1) of its moving
                average, as in AutoClip (Seetharaman et al. 2020, arXiv 2007.14469); 0 disables
                clipping.
        """
        self.weights = list(weights)
        self.exp_avg = [torch.zeros_like(w) for w in self.weights]
        self.exp_avg_sq = [torch.zeros_like(w) for w in self.weights]
        self.steps = [torch.zeros((), device=w.device) for w in self.weights]
        self.norm: float | None = None
        self._eps = eps
        self._clip = clip

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """Update the weights, given their gradients."""
        # The fused kernel reads memory in order and ignores strides.
        gradients = [gradient.contiguous() for gradient in gradients]
        adam(
            self.weights,
            self._clipped(gradients) if self._clip else gradients,
            self.exp_avg,
            self.exp_avg_sq,
            [],
            self.steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=self._eps,
            maximize=False,
        )

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        """Scale the gradients down to the highest norm allowed, and count their norm."""
        norm = get_total_norm(gradients).item()
        if not self.norm:  # nothing counted yet, or only gradients of zeros
            self.norm = norm
        highest = self._clip * self.norm
        # One extreme step moves the average little, whatever its norm.
        self.norm += (1 - _NORM_DECAY) * (min(norm, highest) - self.norm)
        return [g * (highest / norm) for g in gradients] if norm > highest else gradients

    def to_dict(self) -> dict[str, Any]:
        """Return the moments, the number of steps and the norm; the tensors are not copied."""
        return {
            "steps": self.steps[0],
            "exp_avg": self.exp_avg,
            "exp_avg_sq": self.exp_avg_sq,
            "norm": self.norm,
        }

    def load_dict(self, data: dict[str, Any]) -> None:
        """Load the result of `to_dict` for weights of the same shapes.

        Raises:
            ValueError, RuntimeError: the number of tensors or their shapes differ.
        """
        copy_each(self.steps, [data["steps"]] * len(self.steps))
        copy_each(self.exp_avg, data["exp_avg"])
        copy_each(self.exp_avg_sq, data["exp_avg_sq"])
        self.norm = data.get("norm")  # runs of earlier versions have none


@torch.no_grad()
def copy_each(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source over the target at the same position."""
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
