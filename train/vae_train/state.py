"""The state of a training run between two steps, complete enough to resume it bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .config import TrainConfig
from .objective import Model, mean_squared_error
from .optimizer import Adam, copy_each

_INITIAL_VARIANCE = 0.1  # of pixels; the moving average forgets this value within a few steps
_MIN_VARIANCE = 1e-6
_VARIANCE_DECAY = 0.99
_TREND_DECAY = 0.98
_MAX_RISE = 0.5  # of the loss above its lowest, relative to its scale
_MAX_LOSS_OF_PROGRESS = 0.1  # of the fall from the first loss to the lowest


@dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch: mean training losses, and mean validation losses at its end."""

    epoch: int
    loss: float
    reconstruction: float
    kl: float
    seconds: float
    images_per_second: float
    validation_loss: float | None = None
    validation_reconstruction: float | None = None
    validation_kl: float | None = None


@dataclass
class Trend:
    """How the loss develops over some dozens of steps.

    A diverging loss stays high. A single high step, as KL terms may cause, says nothing: it counts
    as at most four times the allowed rise, so that it takes several to exceed it.

    Attributes:
        first: the loss of the first step; None before it.
        recent: the moving average of the loss over about 50 steps.
        lowest: the lowest `recent` so far.
    """

    first: float | None = None
    recent: float = 0.0
    lowest: float = 0.0

    def add(self, loss: float, scale: float | None, *, falling: bool = True) -> bool:
        """Count the loss of a step; return whether the loss has diverged.

        Args:
            loss: the loss of the step.
            scale: a rise by half of this is too much; None if half of the lowest loss is.
            falling: whether the loss is expected to fall. If not, it is only compared with the
                first one.
        """
        if self.first is None:
            self.first = self.recent = self.lowest = loss
            return False
        scale = abs(self.lowest) if scale is None else scale
        allowed = max(_MAX_RISE * scale, _MAX_LOSS_OF_PROGRESS * (self.first - self.lowest))
        loss = min(loss, self.lowest + 4 * allowed)
        self.recent += (1 - _TREND_DECAY) * (loss - self.recent)
        if falling:
            self.lowest = min(self.lowest, self.recent)
        return self.recent > self.lowest + allowed


class State:
    """The state of a run.

    Attributes:
        model: the model with its current weights.
        optimizer: Adam, including its moments.
        ema_weights: the moving average of the weights; None if `ema` is 0.
        variance: the pixel variance learned by the `gaussian` objective.
        noise: the generator of all random numbers within a step.
        shuffle_state: u8[...], the state of the shuffling generator at the start of the epoch.
        step: the number of completed optimizer steps.
        sums: loss, reconstruction and KL, summed over the images of the epoch so far.
        seconds: time spent on the epoch so far.
        history: the finished epochs.
        trend: the development of the loss, for detecting that it diverges.
        best: weights, moments, average and variance after the epoch with the lowest validation
            loss (training loss if no images are held out); None before the first epoch ends.
    """

    def __init__(self, model: Model, config: TrainConfig) -> None:
        device = next(model.parameters()).device
        self.model = model
        self.optimizer = Adam(model.parameters(), config.adam_eps, config.gradient_clip)
        self.ema = config.ema
        self.ema_weights = [p.detach().clone() for p in model.parameters()] if config.ema else None
        self.variance = _INITIAL_VARIANCE
        self.noise = torch.Generator(device).manual_seed(config.seed)
        self.shuffle_state = torch.Generator().manual_seed(config.seed).get_state()
        self.step = 0
        self.sums = [0.0, 0.0, 0.0]
        self.seconds = 0.0
        self.history: list[Epoch] = []
        self.trend = Trend()
        self.best: dict[str, Any] | None = None

    def end_step(self, means: Sequence[float], images: int) -> None:
        """Count an optimizer step; `means` holds its mean loss, reconstruction and KL per image."""
        self.step += 1
        self.sums = [a + b * images for a, b in zip(self.sums, means, strict=True)]
        if self.ema_weights is not None:
            weight = 1 - _ramp(self.step, self.ema)
            with torch.no_grad():
                for mean, current in zip(self.ema_weights, self.optimizer.weights, strict=True):
                    mean.lerp_(current, weight)

    def learn_variance(self, nll: float, pixels: int) -> None:
        """Move the variance towards the batch's mean squared error per pixel.

        Args:
            nll: the batch's negative log-likelihood under the current variance, in nats.
            pixels: number of pixel values per image.
        """
        self.set_variance(nll, pixels, 1 - _ramp(self.step, _VARIANCE_DECAY))

    def set_variance(self, nll: float, pixels: int, weight: float = 1.0) -> None:
        """Move the variance the fraction `weight` of the way to the mean squared error."""
        error = mean_squared_error(nll, pixels, self.variance)
        self.variance = max(_MIN_VARIANCE, self.variance + weight * (error - self.variance))

    def end_epoch(self, epoch: Epoch, shuffle_state: Tensor) -> None:
        """Record a finished epoch; `shuffle_state` is the generator's state for the next one."""
        self.history.append(epoch)
        self.sums, self.seconds, self.shuffle_state = [0.0, 0.0, 0.0], 0.0, shuffle_state
        if best_epoch(self.history) == len(self.history) - 1:
            self.best = copy.deepcopy(self._learned())

    @contextmanager
    def averaged_model(self) -> Iterator[Model]:
        """Use the averaged weights, if any, within the `with` block."""
        if self.ema_weights is None:
            yield self.model
            return
        weights = self.optimizer.weights
        own = [w.detach().clone() for w in weights]
        copy_each(weights, self.ema_weights)
        try:
            yield self.model
        finally:
            copy_each(weights, own)

    def finish(self, *, best: bool) -> None:
        """Load the weights to keep into the model.

        Args:
            best: keep those of the best epoch instead of the last; with `ema`, the averaged ones.
        """
        if best and self.best is not None:
            self._learn(self.best)
        if self.ema_weights is not None:
            copy_each(self.optimizer.weights, self.ema_weights)

    def to_dict(self) -> dict[str, Any]:
        """Return tensors and plain values; the tensors are not copied."""
        return {
            **self._learned(),
            "noise": self.noise.get_state(),
            "shuffle_state": self.shuffle_state,
            "step": self.step,
            "sums": self.sums,
            "seconds": self.seconds,
            "history": [asdict(epoch) for epoch in self.history],
            "trend": asdict(self.trend),
            "best": self.best,
        }

    def load_dict(self, data: dict[str, Any]) -> None:
        """Load what `to_dict` returned for a state of the same model and config.

        Raises:
            ValueError, TypeError, LookupError, RuntimeError, AttributeError: `data` does not fit.
        """
        self._learn(data)
        if data["best"] is not None:
            self._check(data["best"])
        self.noise.set_state(data["noise"])
        torch.Generator().set_state(data["shuffle_state"])  # raises an error if invalid
        self.shuffle_state = data["shuffle_state"]
        self.step = int(data["step"])
        self.sums = [float(value) for value in data["sums"]]
        self.seconds = float(data["seconds"])
        self.history = [Epoch(**epoch) for epoch in data["history"]]
        self.trend = Trend(**data["trend"])
        self.best = data["best"]

    def _learned(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "moments": self.optimizer.to_dict(),
            "ema_weights": self.ema_weights,
            "variance": self.variance,
        }

    def _learn(self, data: dict[str, Any]) -> None:
        self._check(data)
        self.model.load_state_dict(data["model"])
        self.optimizer.load_dict(data["moments"])
        if self.ema_weights is not None:
            copy_each(self.ema_weights, data["ema_weights"])
        self.variance = float(data["variance"])

    def _check(self, data: dict[str, Any]) -> None:
        """Check the tensors' shapes; torch would silently broadcast or accept some wrong ones."""
        shapes = [weight.shape for weight in self.optimizer.weights]
        lists = [data["moments"]["exp_avg"], data["moments"]["exp_avg_sq"]]
        if self.ema_weights is not None:
            lists.append(data["ema_weights"])
        if any([t.shape for t in tensors] != shapes for tensors in lists):
            raise ValueError("moments or averages differ in shape from the weights")


def best_epoch(history: list[Epoch]) -> int:
    """Return the index of the (first) epoch with the lowest loss.

    It is the validation loss, or the training loss if no images are held out.
    """
    losses = [e.loss if e.validation_loss is None else e.validation_loss for e in history]
    return losses.index(min(losses))


def _ramp(step: int, max_decay: float) -> float:
    """Return a moving average's decay: low at first, so that the initial value soon fades."""
    return min(max_decay, (1 + step) / (10 + step))
