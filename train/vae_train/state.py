"""All that a training run is at one step: what it takes to go on bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

import torch
from torch import Tensor

from .adam import Adam, copy_each
from .config import TrainConfig
from .objective import Model, mean_squared_error

_FIRST_VARIANCE = 0.1  # of pixels; forgotten within a few steps
_LEAST_VARIANCE = 1e-6
_VARIANCE_DECAY = 0.99


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


class State:
    """A run between two steps.

    Attributes:
        model: with its weights.
        optimiser: Adam, with its moments.
        average: the moving average of the weights; None without `ema`.
        variance: of the pixels, what `gaussian` has learned.
        noise: draws everything random inside a step.
        order: u8[...], the state, at the start of the epoch, of the generator that shuffles.
        step: optimiser steps done.
        sums: loss, reconstruction and KL, summed over the images of the epoch so far.
        seconds: of the epoch so far.
        history: the epochs that are done.
        best: weights, moments, average and variance of the epoch with the best validation loss;
            None without `patience`.
    """

    def __init__(self, model: Model, config: TrainConfig) -> None:
        device = next(model.parameters()).device
        self.model = model
        self.optimiser = Adam(model.parameters(), config.adam_eps)
        self.ema = config.ema
        self.average = [p.detach().clone() for p in model.parameters()] if config.ema else None
        self.variance = _FIRST_VARIANCE
        self.noise = torch.Generator(device).manual_seed(config.seed)
        self.order = torch.Generator().manual_seed(config.seed).get_state()
        self.step = 0
        self.sums = [0.0, 0.0, 0.0]
        self.seconds = 0.0
        self.history: list[Epoch] = []
        self.best: dict[str, Any] | None = None

    def stepped(self, means: list[float], images: int) -> None:
        """Count one optimiser step, whose batch of `images` had these means of the three sums."""
        self.step += 1
        self.sums = [a + b * images for a, b in zip(self.sums, means, strict=True)]
        if self.average is not None:
            weight = 1 - _ramp(self.step, self.ema)
            with torch.no_grad():
                for mean, now in zip(self.average, self.optimiser.weights, strict=True):
                    mean.lerp_(now, weight)

    def learn_variance(self, nll: float, pixels: int) -> None:
        """Move the variance towards the batch's best one, the mean squared error behind `nll`."""
        share = 1 - _ramp(self.step, _VARIANCE_DECAY)
        self.set_variance(nll, pixels, share)

    def set_variance(self, nll: float, pixels: int, share: float = 1.0) -> None:
        """Take the mean squared error behind `nll`, or a `share` of the way there."""
        found = mean_squared_error(nll, pixels, self.variance)
        self.variance = max(_LEAST_VARIANCE, self.variance + share * (found - self.variance))

    def end_epoch(self, record: Epoch, order: Tensor, *, keep_best: bool) -> None:
        """Add a finished epoch; `order` is the state of the generator for the next."""
        self.history.append(record)
        self.sums, self.seconds, self.order = [0.0, 0.0, 0.0], 0.0, order
        if keep_best and best_epoch(self.history) == len(self.history) - 1:
            self.best = copy.deepcopy(self._learned())

    @contextmanager
    def averaged(self) -> Iterator[Model]:
        """The model with the averaged weights in it, where there are such."""
        if self.average is None:
            yield self.model
            return
        weights = self.optimiser.weights
        own = [w.detach().clone() for w in weights]
        copy_each(weights, self.average)
        try:
            yield self.model
        finally:
            copy_each(weights, own)

    def finish(self) -> None:
        """Leave in the model what is to be kept: the best weights, and of them the average."""
        if self.best is not None:
            self._learn(self.best)
        if self.average is not None:
            copy_each(self.optimiser.weights, self.average)

    def to_dict(self) -> dict[str, Any]:
        """Tensors and plain values; the tensors are the live ones."""
        return {
            **self._learned(),
            "noise": self.noise.get_state(),
            "order": self.order,
            "step": self.step,
            "sums": self.sums,
            "seconds": self.seconds,
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
        }

    def load_dict(self, data: dict[str, Any]) -> None:
        """Become what `to_dict` described.

        Raises:
            ValueError, TypeError, LookupError, RuntimeError, AttributeError: it described another.
        """
        self._learn(data)
        if data["best"] is not None:
            self._check(data["best"])
        self.noise.set_state(data["noise"])
        torch.Generator().set_state(data["order"])  # refuses what is no state
        self.order = data["order"]
        self.step = int(data["step"])
        self.sums = [float(value) for value in data["sums"]]
        self.seconds = float(data["seconds"])
        self.history = [Epoch(**epoch) for epoch in data["history"]]
        self.best = data["best"]

    def _learned(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "moments": self.optimiser.to_dict(),
            "average": self.average,
            "variance": self.variance,
        }

    def _learn(self, data: dict[str, Any]) -> None:
        self._check(data)
        self.model.load_state_dict(data["model"])
        self.optimiser.load_dict(data["moments"])
        if self.average is not None:
            copy_each(self.average, data["average"])
        self.variance = float(data["variance"])

    def _check(self, data: dict[str, Any]) -> None:
        """Refuse moments and averages of other shapes, which torch would spread or take."""
        shapes = [weight.shape for weight in self.optimiser.weights]
        lists = [data["moments"]["exp_avg"], data["moments"]["exp_avg_sq"]]
        if self.average is not None:
            lists.append(data["average"])
        if any([t.shape for t in tensors] != shapes for tensors in lists):
            raise ValueError("moments or averages of other shapes than the weights")


def best_epoch(history: list[Epoch]) -> int:
    """The index of the epoch with the lowest validation loss, the first of equals."""
    losses = [inf if e.validation_loss is None else e.validation_loss for e in history]
    return losses.index(min(losses))


def _ramp(step: int, most: float) -> float:
    """A decay that is small at first, so that an average soon forgets where it began."""
    return min(most, (1 + step) / (10 + step))
