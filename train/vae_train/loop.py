"""The training loop, read from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models import AE, CVAE, VAE, Output
from vae_runtime.errors import UsageError

from .config import TrainConfig
from .data import Images
from .objective import loss

Model = AE | VAE | CVAE


@dataclass(frozen=True)
class Step:
    """One optimiser step, as a progress bar or a log wants it. Losses are batch means."""

    epoch: int
    step: int
    steps: int
    loss: float
    reconstruction: float
    kl: float
    images_per_second: float


@dataclass(frozen=True)
class Epoch:
    """Means over one epoch of training, and over the validation data at its end."""

    epoch: int
    loss: float
    reconstruction: float
    kl: float
    seconds: float
    images_per_second: float
    validation_loss: float | None = None
    validation_reconstruction: float | None = None
    validation_kl: float | None = None


def run_model(
    model: Model, image: Tensor, label: Tensor | None, generator: torch.Generator
) -> Output:
    """One forward pass, giving each family what it takes."""
    output: Output
    if isinstance(model, CVAE):
        output = model(image, label, generator=generator)
    elif isinstance(model, VAE):
        output = model(image, generator=generator)
    else:
        output = model(image)
    return output


def fit(
    model: Model,
    data: Images,
    validation: Images | None,
    config: TrainConfig,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train `model` in place.

    Args:
        model: on the same device as the data.
        data: training images.
        validation: held-out images, or None.
        config: the recipe.
        on_step: called after every step.
        on_epoch: called after every epoch.

    Returns:
        The record of each epoch.

    Raises:
        UsageError: the loss is no longer a finite number.
    """
    device = data.pixels.device
    order = torch.Generator().manual_seed(config.seed)  # shuffles, and drops labels
    noise = torch.Generator(device).manual_seed(config.seed)  # draws the codes
    steps = -(-len(data) // config.batch_size)
    optimiser = torch.optim.Adam(
        model.parameters(), lr=config.learning_rate, eps=config.adam_eps, fused=True
    )
    schedule = _schedule(optimiser, config, steps * config.epochs)
    history = []
    for epoch in range(1, config.epochs + 1):
        model.train()
        start = time.perf_counter()
        sums = torch.zeros(3, dtype=torch.float64)  # loss, reconstruction, kl; over images
        shuffled = torch.randperm(len(data), generator=order).to(device)
        for step, index in enumerate(torch.split(shuffled, config.batch_size), 1):
            image, label = data.batch(index)
            label = _drop(label, model, config.label_dropout, order)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                output = run_model(model, image, label, noise)
            terms = loss(output, image, config.objective, config.beta)
            optimiser.zero_grad()
            torch.autograd.backward(terms.total.mean())
            optimiser.step()
            schedule.step()
            batch = torch.stack(terms).detach().mean(1).cpu()
            _check_finite(batch[0], epoch, step, config)
            sums += batch * len(index)
            done = (step - 1) * config.batch_size + len(index)
            rate = done / (time.perf_counter() - start)
            on_step(Step(epoch, step, steps, *_three(batch), images_per_second=rate))
        seconds = time.perf_counter() - start
        held = (None, None, None) if validation is None else evaluate(model, validation, config)
        record = Epoch(epoch, *_three(sums / len(data)), seconds, len(data) / seconds, *held)
        history.append(record)
        on_epoch(record)
    return history


@torch.no_grad()
def evaluate(model: Model, data: Images, config: TrainConfig) -> tuple[float, float, float]:
    """Loss, reconstruction and KL by the training objective, means over `data`.

    The codes are drawn anew from the same seed at each call, so that epochs compare.
    """
    model.eval()
    noise = torch.Generator(data.pixels.device).manual_seed(config.seed)
    sums = torch.zeros(3, dtype=torch.float64, device=data.pixels.device)
    for image, label in data.batches(256):
        terms = loss(run_model(model, image, label, noise), image, config.objective, config.beta)
        sums += torch.stack(terms).sum(1)
    return _three(sums / len(data))


def _three(terms: Tensor) -> tuple[float, float, float]:
    """Loss, reconstruction and KL as plain numbers."""
    total, reconstruction, kl = terms.tolist()
    return total, reconstruction, kl


def _check_finite(value: Tensor, epoch: int, step: int, config: TrainConfig) -> None:
    if not value.isfinite():
        raise UsageError(
            f"training diverged: loss {value.item()} at epoch {epoch}, step {step}. "
            f"Lower the learning rate ({config.learning_rate:g}) or beta ({config.beta:g})."
        )


def _schedule(
    optimiser: torch.optim.Optimizer, config: TrainConfig, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=steps + 1, pct_start=0.15, cycle_momentum=False
    )


def _drop(
    label: Tensor | None, model: Model, share: float, generator: torch.Generator
) -> Tensor | None:
    """Replace a random share of the labels by "no label"."""
    if label is None or share == 0:
        return label
    dropped = torch.rand(len(label), generator=generator).to(label.device) < share
    return label.masked_fill(dropped, model.config.classes)
