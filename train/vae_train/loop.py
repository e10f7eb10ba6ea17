"""The training loop; read it from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from signal import SIGINT
from typing import NamedTuple

import torch
from torch import nn

from vae_runtime.errors import UsageError

from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import BatchMaker, Images, ImageSource, shuffle
from .distributed import ProcessGroup
from .objective import Batch, LossModule, LossTerms, Model, total_loss
from .state import Epoch, State, best_epoch

_RISE = 0.15  # fraction of the steps over which `one_cycle` rises to its peak
_START = 1 / 25  # initial learning rate, relative to the peak


class Losses(NamedTuple):
    """The loss, its reconstruction term and its KL term, as means over images."""

    loss: float
    reconstruction: float
    kl: float


@dataclass(frozen=True)
class Step:
    """Metrics of one optimizer step, for progress bars and logs; losses are batch means."""

    epoch: int
    step: int
    steps: int
    loss: float
    reconstruction: float
    kl: float
    images_per_second: float


class Callback:
    """Called while a model trains; override the methods that you need.

    The names are those of Keras and Hugging Face. To stop training, raise an exception: it reaches
    the caller of `train`, and `resume=True` later continues from the last saved state.
    """

    def on_train_begin(self, steps: int) -> None:
        """Training begins; a full run takes `steps` optimizer steps."""

    def on_step_end(self, step: Step) -> None:
        """An optimizer step is complete."""

    def on_epoch_end(self, epoch: Epoch, model: Model) -> None:
        """An epoch is complete, including its validation.

        Args:
            epoch: the mean losses of the epoch.
            model: the model in evaluation mode; with `ema`, it has the averaged weights. Do not
                change it.
        """

    def on_train_end(self, checkpoint: Checkpoint) -> None:
        """The run is finished, and its files are written."""


class Stopped(Exception):
    """Raised when a signal stops training, once a step is complete and the state is saved.

    Attributes:
        signal: the number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class Diverged(UsageError):
    """Raised when the loss is not finite, or far above where it was.

    Attributes:
        checkpoint: the model of the best epoch before that; None if there is none.
    """

    def __init__(self, message: str, checkpoint: Checkpoint | None = None) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


def fit(
    model: Model,
    data: Images,
    validation: Images | None,
    config: TrainConfig,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    state: State | None = None,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
    save: Callable[[State, bool], None] = lambda state, last: None,
    stop_signal: Callable[[], int] = lambda: 0,
) -> State:
    """Train `model` in place.

    Args:
        model: the model, on the same device as the data.
        data: the training images held by this process.
        validation: this process's share of the held-out images; None if no images are held out.
        config: how to train; `precision` must not be `auto`.
        on_step: called after every step.
        on_epoch: called after every epoch.
        state: the state of `model` to continue from; None starts a new run.
        group: the processes that train together.
        save: called with the state after every step, at the end, and if a callback raises an
            exception; the second argument is True in the last call.
        stop_signal: called at every step; if it returns a signal number instead of 0, training
            stops after that step.

    Returns:
        The final state, including the history of all epochs. `model` then holds the weights to
        keep: with `patience`, those of the best epoch; with `ema`, the averaged ones.

    Raises:
        Diverged: the loss is not finite, or far above where it was.
        Stopped: `stop_signal` returned a signal number; the state was saved.
    """
    state = state or State(model, config)
    compute = group.wrap(LossModule(model, config))
    size = config.batch_size // group.shards  # images per shard and step
    steps = steps_per_epoch(data, config, group)
    while len(state.history) < config.epochs and not out_of_patience(state.history, config):
        epoch = len(state.history) + 1
        epoch_config = config.for_epoch(epoch)
        batches = BatchMaker(data, model.config, epoch_config, group, state.noise)
        model.train()
        start = time.perf_counter() - state.seconds
        order, next_shuffle_state = shuffle(len(data), group, state.shuffle_state)
        indices = batches.split(order, size)
        for step in range(state.step - (epoch - 1) * steps, steps):
            batch = batches.make(indices[step], config.label_dropout)
            beta = kl_weight(config, state.step, steps)
            rate = learning_rate(config, state.step, steps * config.epochs)
            own_losses = _update(compute, state, batch, beta, rate, config.free_bits, group)
            # Processes must agree on the losses and on whether to stop; one exchange settles both.
            *means, stopping = group.means([*own_losses, float(stop_signal() > 0)])
            losses = Losses(*means)
            _check_step(losses, state, f"loss at epoch {epoch}, step {step + 1},", config)
            images = len(indices[step]) * group.world_size
            state.end_step(losses, images)
            if config.objective == "gaussian":
                state.learn_variance(losses.reconstruction, model.config.pixels)
            state.seconds = time.perf_counter() - start
            done = step * size * group.shards + images
            with _saved_if_it_raises(save, state):
                on_step(Step(epoch, step + 1, steps, *losses, done / state.seconds))
            save(state, stopping > 0)
            if stopping:
                raise Stopped(stop_signal() or SIGINT)  # SIGINT if another process got the signal
        images = len(data) * group.world_size
        record = _end_of_epoch(state, epoch, images, validation, epoch_config, group)
        state.end_epoch(record, next_shuffle_state)
        with _saved_if_it_raises(save, state):
            on_epoch(record)
    save(state, True)
    if group.means([float(stop_signal() > 0)])[0] > 0:  # signalled during the last validation
        raise Stopped(stop_signal() or SIGINT)
    state.finish(best=config.patience > 0)
    return state


@contextmanager
def _saved_if_it_raises(save: Callable[[State, bool], None], state: State) -> Iterator[None]:
    """Run a callback between two steps; if it ends the training, no work is lost."""
    try:
        yield
    except Exception:
        save(state, True)
        raise


def steps_per_epoch(data: Images, config: TrainConfig, group: ProcessGroup) -> int:
    """Count the optimizer steps of an epoch over the images that this process holds."""
    return -(-len(data) // (config.batch_size // group.shards * group.held_shards))


def _update(
    compute: nn.Module,
    state: State,
    batch: Batch,
    beta: float,
    learning_rate: float,
    free_bits: float,
    group: ProcessGroup,
) -> Losses:
    """Take one optimizer step; return the mean losses over this process's batch."""
    terms: LossTerms = compute(batch, beta, state.variance)
    means = terms.means()
    batch_kl = group.mean_(means.kl.detach().clone()) if free_bits else None
    loss = total_loss(means, beta, free_bits, batch_kl)
    state.optimizer.step(group.gradients(loss, state.optimizer.weights), learning_rate)
    return Losses(loss.item(), means.reconstruction.item(), means.kl.sum().item())


def _end_of_epoch(
    state: State,
    epoch: int,
    images: int,
    validation: Images | None,
    config: TrainConfig,
    group: ProcessGroup,
) -> Epoch:
    """Average the losses over the images of the epoch, and validate the averaged weights."""
    losses = Losses(*(value / images for value in state.sums))
    held_out: tuple[float, ...] = ()
    if validation is not None:
        with state.averaged_model() as model:
            held_out = evaluate(model, validation, config, variance=state.variance, group=group)
        check_finite(held_out[0], f"validation loss of epoch {epoch}", config)
    return Epoch(epoch, *losses, state.seconds, images / state.seconds, *held_out)


@torch.no_grad()
def evaluate(
    model: Model,
    data: ImageSource,
    config: TrainConfig,
    *,
    variance: float = 0.5,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
) -> Losses:
    """Compute the training objective over `data`, in float32 and with the full KL weight.

    Each call draws its random numbers from the same seed, so that epochs are comparable.

    Args:
        model: the model, which is left in evaluation mode.
        data: the images held by this process.
        config: the training config.
        variance: variance of the pixels, for the `gaussian` objective.
        group: the processes that evaluate together.
    """
    model.eval()
    noise = torch.Generator(data.device).manual_seed(config.seed)
    compute = LossModule(model, replace(config, precision="float32"))
    rows = []  # f64[1 + D + 1] per batch: summed reconstruction, KL and bound
    for batch in BatchMaker(data, model.config, config, group, noise).all():
        terms: LossTerms = compute(batch, config.beta, variance)
        bound = terms.reconstruction if terms.bound is None else terms.bound
        columns = (terms.reconstruction[:, None], terms.kl, bound[:, None])
        rows.append(torch.cat(columns, 1).sum(0, dtype=torch.float64))
    mean = group.mean_(torch.stack(rows).sum(0) / len(data))
    means = LossTerms(mean[0], mean[1:-1], mean[-1] if config.importance_samples > 1 else None)
    loss = total_loss(means, config.beta, config.free_bits)
    return Losses(loss.item(), means.reconstruction.item(), means.kl.sum().item())


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the learning rate at step `step` of `steps`, counted from 0."""
    if config.schedule == "constant":
        return config.learning_rate
    top = _RISE * steps
    if step < top:
        factor = _START + (1 - _START) * (1 - math.cos(math.pi * step / top)) / 2
    else:
        factor = (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2
    return config.learning_rate * factor


def kl_weight(config: TrainConfig, step: int, steps: int) -> float:
    """Return the KL weight at step `step`, counted from 0, with `steps` steps per epoch."""
    warmup = config.kl_warmup * steps
    return config.beta * (min(1.0, step / warmup) if warmup else 1.0)


def out_of_patience(history: list[Epoch], config: TrainConfig) -> bool:
    """Return whether the validation loss has not improved in the last `patience` epochs."""
    if not config.patience or not history:
        return False
    return len(history) - 1 - best_epoch(history) >= config.patience


def _check_step(losses: Losses, state: State, name: str, config: TrainConfig) -> None:
    """Stop training if the losses of a step, or of the last few dozen steps, have diverged."""
    check_finite(losses.loss, name, config)
    pixels = state.model.config.pixels
    warming_up = len(state.history) < config.kl_warmup  # the loss rises with the weight of the KL
    scale = pixels / 2 if config.objective == "gaussian" else None
    if state.trend.add(losses.loss, scale, falling=not warming_up):
        raise Diverged(
            f"training diverged: the {name} is {losses.loss:.4g}, after {state.trend.lowest:.4g}. "
            f"Lower the learning rate ({config.learning_rate:g}), for example to "
            f"{lower_rate(config):g}."
        )


def lower_rate(config: TrainConfig) -> float:
    """Suggest a learning rate: a third of the one that was too high, at most 0.003."""
    return min(3e-3, float(f"{config.learning_rate / 3:.1g}"))


def check_finite(value: float, name: str, config: TrainConfig) -> None:
    """Stop training if it has diverged.

    Raises:
        Diverged: `value` is not finite.
    """
    if not math.isfinite(value):
        raise Diverged(
            f"training diverged: the {name} is {value}. Lower the learning rate "
            f"({config.learning_rate:g}), for example to {lower_rate(config):g}, or beta "
            f"({config.beta:g})."
        )
