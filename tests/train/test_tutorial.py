"""The training loop gives the same loss at every step as the loop of a tutorial.

The tutorial is written out here in plain torch, from its recipe: modules, losses, Adam. Both start
from the same weights and see the same batches and the same noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import build, preset
from vae_runtime.datasets import load_dataset
from vae_train.config import TrainConfig, recipe
from vae_train.data import Images, to_device
from vae_train.loop import Step, fit

H, HIDDEN, BATCH, EPOCHS, SEED = 8, 256, 32, 2, 5
STEPS = 40  # per epoch
Loss = Any


@pytest.fixture(scope="module")
def images(mnist_or_none: Path | None) -> Images:
    """A slice of MNIST, or of scikit-learn's digits if MNIST is not available."""
    data = load_dataset(mnist_or_none, "test") if mnist_or_none else load_dataset("digits")
    # The last batch is smaller than the others, as in a real epoch.
    return to_device(data.take(slice(0, BATCH * STEPS - 5)), torch.device("cpu"), labelled=True)


class TutorialAE(nn.Module):
    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(pixels, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, H), nn.ReLU()
        )
        self.decoder = nn.Sequential(
            nn.Linear(H, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, pixels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, label: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        return (self.decoder(self.encoder(x)),)


class TutorialVAE(TutorialAE):
    def __init__(self, pixels: int) -> None:
        super().__init__(pixels)
        self.mu, self.log_var = nn.Linear(H, H), nn.Linear(H, H)

    def forward(self, x: Tensor, label: Tensor, eps: Tensor) -> tuple[Tensor, ...]:
        features = self.encoder(x)
        mu, log_var = self.mu(features), self.log_var(features)
        z = mu + torch.exp(log_var / 2) * eps
        return self.decoder(self.join(z, label)), mu, log_var

    def join(self, z: Tensor, label: Tensor) -> Tensor:
        return z


class TutorialCVAE(TutorialVAE):
    def __init__(self, pixels: int) -> None:
        super().__init__(pixels)
        self.projector = nn.Sequential(nn.Linear(10, H), nn.ReLU())

    def join(self, z: Tensor, label: Tensor) -> Tensor:
        return z + self.projector(F.one_hot(label, 10).float())


def kl(mu: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + log_var - mu**2 - log_var.exp(), dim=1).mean()


def mean_squared(x: Tensor, y: Tensor) -> Tensor:
    return nn.MSELoss()(y, x)


def squared_and_kl(x: Tensor, y: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    return ((x - y) ** 2).sum(dim=1).mean() + 3 * kl(mu, log_var)


def cross_entropy_and_kl(x: Tensor, y: Tensor, mu: Tensor, log_var: Tensor) -> Tensor:
    return F.binary_cross_entropy(y, x, reduction="none").sum(dim=1).mean() + kl(mu, log_var)


def batches(images: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield flattened images and labels in the order in which our loop takes them."""
    order = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        for index in torch.randperm(len(images), generator=order).split(BATCH):
            image, label = images.batch(index)
            yield image.flatten(1), label


def tutorial_losses(model: Any, images: Images, objective: Loss) -> list[float]:
    """Run the tutorial's training loop."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    noise = torch.Generator().manual_seed(SEED)
    losses = []
    for x, label in batches(images):
        eps = torch.randn(len(x), H, generator=noise)
        loss = objective(x, *model(x, label, eps))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def our_losses(model: Any, images: Images, config: TrainConfig) -> list[float]:
    steps: list[Step] = []
    fit(model, images, None, config, on_step=steps.append)
    return [step.loss for step in steps]


def copy_weights(tutorial: nn.Module, ours: nn.Module) -> None:
    """Copy the weights; both models have the same layers under different names."""
    names = {
        "encoder.0": "encoder.trunk.layers.0",
        "encoder.2": "encoder.trunk.layers.1",
        "decoder.0": "decoder.trunk.layers.0",
        "decoder.2": "decoder.head",
        "mu": "mu",
        "log_var": "log_var",
        "projector.0": "decoder_labels.linear",
    }
    state = tutorial.state_dict()
    renamed = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value.clone()
        for key, value in state.items()
    }
    ours.load_state_dict(renamed)  # strict: no layer is missing or superfluous


CASES: dict[str, tuple[Any, type[nn.Module], Loss, dict[str, Any]]] = {
    "ae": ("ae", TutorialAE, mean_squared, {}),
    "vae_mse": ("vae", TutorialVAE, squared_and_kl, {"objective": "mse", "beta": 3}),
    "vae_bce": ("vae", TutorialVAE, cross_entropy_and_kl, {}),
    "cvae_mse": ("cvae", TutorialCVAE, squared_and_kl, {"objective": "mse", "beta": 3}),
    "cvae_bce": ("cvae", TutorialCVAE, cross_entropy_and_kl, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_our_loss_curve_equals_the_tutorials(case: str, images: Images) -> None:
    family, module, objective, changes = CASES[case]
    shape = tuple(images.pixels.shape[1:])
    config = recipe("reference", family, int(np.prod(shape)), epochs=EPOCHS, seed=SEED, **changes)
    torch.manual_seed(SEED)
    tutorial: Any = module(int(np.prod(shape)))
    ours = build(preset("reference", family, shape, 10))  # type: ignore[arg-type]
    copy_weights(tutorial, ours)

    expected = tutorial_losses(tutorial, images, objective)
    found = our_losses(ours, images, config)

    if family == "ae":  # the tutorial averages over pixels, we sum
        found = [loss / float(np.prod(shape)) for loss in found]
    assert len(found) == len(expected) == EPOCHS * STEPS
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert np.mean(expected[-5:]) < 0.8 * np.mean(expected[:5])  # the model did learn


def test_images_are_scaled_like_the_tutorials(images: Images) -> None:
    x, _ = images.batch(torch.arange(3))
    expected = images.pixels[:3].double() / 255
    torch.testing.assert_close(x.double(), expected, rtol=1e-7, atol=0)
