"""Our Adam takes the same steps as torch.optim.Adam, bit for bit; it clips extreme gradients."""

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


def norm(gradients: list[Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).norm().item()


def test_a_gradient_of_extreme_norm_is_scaled_down_to_a_multiple_of_the_average() -> None:
    ours, theirs = weights(), weights()
    adam, plain = Adam(ours, 1e-8, clip=2.0), Adam(theirs, 1e-8)
    usual, average = gradients(1), norm(gradients(1))
    extreme = [1e6 * g for g in usual]
    for given, expected in [(usual, usual), (extreme, [2 * g for g in usual])]:
        adam.step(given, 0.1)
        plain.step(expected, 0.1)
        for weight, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-5, atol=1e-6)
    # The average counts the extreme norm as the highest one allowed.
    assert adam.norm == pytest.approx(average * (0.98 + 0.02 * 2))
    assert plain.norm is None


def test_a_gradient_below_the_limit_is_left_alone() -> None:
    ours, theirs = weights(), weights()
    adam, plain = Adam(ours, 1e-8, clip=2.0), Adam(theirs, 1e-8)
    for factor in (1.0, 1.9, 0.01):
        for each in (adam, plain):
            each.step([factor * g for g in gradients(1)], 0.1)
    assert all(map(torch.equal, ours, theirs))


def test_after_gradients_of_zeros_the_others_count() -> None:
    ours, theirs = weights(), weights()
    adam, plain = Adam(ours, 1e-8, clip=2.0), Adam(theirs, 1e-8)
    for factor in (0.0, 1.0):
        for each in (adam, plain):
            each.step([factor * g for g in gradients(1)], 0.1)
    assert all(map(torch.equal, ours, theirs))
    assert adam.norm == pytest.approx(norm(gradients(1)))


def test_moments_can_be_loaded_into_another_optimizer() -> None:
    once, again = weights(), weights()
    first, second = Adam(once, 1e-8, clip=1.5), Adam(again, 1e-8, clip=1.5)
    first.step(gradients(1), 0.1)
    copy_each(again, once)
    second.load_dict(first.to_dict())
    for adam in (first, second):
        adam.step(gradients(2), 0.1)  # of a far higher norm, and thus clipped
    assert all(map(torch.equal, once, again))


@pytest.mark.parametrize("change", [{"exp_avg": []}, {"steps": torch.zeros(3)}])
def test_moments_of_other_shapes_are_refused(change: dict[str, Any]) -> None:
    adam = Adam(weights(), 1e-8)
    with pytest.raises((ValueError, RuntimeError)):
        adam.load_dict(adam.to_dict() | change)
