"""Our Adam takes the same steps as torch.optim.Adam, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vae_train.optimizer import Adam, copy_each

SHAPES = [(5, 3), (5,), (2, 5, 3, 3), ()]


def weights() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(s, generator=generator).requires_grad_() for s in SHAPES]


def gradients(step: int) -> list[Tensor]:
    """Gradients whose magnitude differs from step to step."""
    generator = torch.Generator().manual_seed(step)
    return [10.0 ** (3 * step % 7 - 4) * torch.randn(s, generator=generator) for s in SHAPES]


def transposed(gradient: Tensor) -> Tensor:
    """The same numbers with the last two dimensions swapped in memory."""
    return gradient.mT.contiguous().mT if gradient.ndim > 1 else gradient


@pytest.mark.parametrize("eps", [1e-8, 1e-8 * 784])
def test_every_step_equals_that_of_torch(eps: float) -> None:
    ours, theirs = weights(), weights()
    adam, torchs = Adam(ours, eps), torch.optim.Adam(theirs, eps=eps, fused=True)
    for step in range(20):
        rate = 1e-3 * (step + 1)
        adam.step([transposed(g) for g in gradients(step)], rate)
        for weight, gradient in zip(theirs, gradients(step), strict=True):
            weight.grad = gradient
        torchs.param_groups[0]["lr"] = rate
        torchs.step()
        assert all(map(torch.equal, ours, theirs)), step
    assert {steps.item() for steps in adam.steps} == {20}
    for k, weight in enumerate(theirs):
        assert torch.equal(adam.exp_avg[k], torchs.state[weight]["exp_avg"])
        assert torch.equal(adam.exp_avg_sq[k], torchs.state[weight]["exp_avg_sq"])


def test_moments_can_be_loaded_into_another_optimizer() -> None:
    once, again = weights(), weights()
    first, second = Adam(once, 1e-8), Adam(again, 1e-8)
    first.step(gradients(1), 0.1)
    copy_each(again, once)
    second.load_dict(first.to_dict())
    for adam in (first, second):
        adam.step(gradients(2), 0.1)
    assert all(map(torch.equal, once, again))


@pytest.mark.parametrize("change", [{"exp_avg": []}, {"steps": torch.zeros(3)}])
def test_moments_of_other_shapes_are_refused(change: dict[str, Any]) -> None:
    adam = Adam(weights(), 1e-8)
    with pytest.raises((ValueError, RuntimeError)):
        adam.load_dict(adam.to_dict() | change)
