"""The training loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from signal import SIGINT

import torch
from torch import nn

from vae_runtime.errors import UsageError

from .batches import Batches
from .config import TrainConfig
from .data import Images, Rows, shuffle
from .objective import Batch, Model, Pass, Terms, total
from .ranks import Ranks
from .state import Epoch, State, best_epoch

_RISE = 0.15  # share of the steps in which `one_cycle` goes up
_START = 1 / 25  # of its peak


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


class Stopped(Exception):
    """Training was asked to stop, and stopped behind a step with its state saved.

    Attributes:
        signal: the number of what asked.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


def fit(
    model: Model,
    data: Images,
    validation: Images | None,
    config: TrainConfig,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    *,
    state: State | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    save: Callable[[State, bool], None] = lambda state, last: None,
    stop: Callable[[], int] = lambda: 0,
) -> State:
    """Train `model` in place.

    Args:
        model: on the same device as the data.
        data: the training images that this process holds.
        validation: the held-out images that it holds, or None.
        config: the recipe; its precision resolved.
        on_step: called after every step.
        on_epoch: called after every epoch.
        state: where to go on, of the same model; None begins.
        ranks: the processes that train together.
        save: called after every step and at the end with the whole state; the second argument says
            that no other call will follow.
        stop: asked at every step for the number of a signal to stop behind it; 0 goes on.

    Returns:
        The state at the end, with the history of the epochs. The model has the weights to keep:
        the best where there is `patience`, averaged where there is `ema`.

    Raises:
        UsageError: the loss is no longer a finite number.
        Stopped: `stop` said so; the state was saved.
    """
    state = state or State(model, config)
    compute = ranks.wrap(Pass(model, config))
    size = config.batch_size // ranks.shards  # images of each shard in a step
    steps = -(-len(data) // (size * ranks.held))
    while len(state.history) < config.epochs and not out_of_patience(state.history, config):
        epoch = len(state.history) + 1
        now = config.of_epoch(epoch)
        batches = Batches(data, model.config, now, ranks, state.noise)
        model.train()
        start = time.perf_counter() - state.seconds
        shuffled, order = shuffle(len(data), ranks, state.order)
        cuts = batches.cut(shuffled, size)
        for step in range(state.step - (epoch - 1) * steps, steps):
            batch = batches.make(cuts[step], config.label_dropout)
            beta = kl_weight(config, state.step, steps)
            rate = learning_rate(config, state.step, steps * config.epochs)
            local = _update(compute, state, batch, (beta, rate, config.free_bits), ranks)
            # One exchange for all that processes must agree on: the losses, and whether to stop.
            told = ranks.means([*local, float(stop() > 0)])
            means, stopping = told[:3], told[3] > 0
            check_finite(means[0], f"loss at epoch {epoch}, step {step + 1},", config)
            seen = len(cuts[step]) * ranks.world
            state.stepped(means, seen)
            if config.objective == "gaussian":
                state.learn_variance(means[1], model.config.pixels)
            state.seconds = time.perf_counter() - start
            done = step * size * ranks.shards + seen
            on_step(Step(epoch, step + 1, steps, *_three(means), done / state.seconds))
            save(state, stopping)
            if stopping:
                raise Stopped(stop() or SIGINT)  # it may have been another process's
        record = _record(state, epoch, len(data) * ranks.world, validation, now, ranks)
        state.end_epoch(record, order, keep_best=config.patience > 0)
        on_epoch(record)
    save(state, True)
    if ranks.means([float(stop() > 0)])[0] > 0:  # during the last validation
        raise Stopped(stop() or SIGINT)
    state.finish()
    return state


def _update(
    compute: nn.Module, state: State, batch: Batch, weights: tuple[float, float, float],
    ranks: Ranks,
) -> list[float]:  # fmt: skip
    """Take one step of the optimiser.

    Args:
        compute: a `Pass`, wrapped for several processes or not.
        state: whose model and optimiser move.
        batch: the images of this process.
        weights: of the KL, the learning rate, and the free bits.
        ranks: the processes.

    Returns:
        Loss, reconstruction and KL, means over the batch of this process.
    """
    beta, rate, free_bits = weights
    terms: Terms = compute(batch, beta, state.variance)
    means = terms.means()
    spent = ranks.mean(means.kl.detach().clone()) if free_bits else None
    loss = total(means, beta, free_bits, spent)
    state.optimiser.step(ranks.gradients(loss, state.optimiser.weights), rate)
    return [loss.item(), means.reconstruction.item(), means.kl.sum().item()]


def _record(
    state: State, epoch: int, images: int, validation: Images | None, config: TrainConfig,
    ranks: Ranks,
) -> Epoch:  # fmt: skip
    """The means of the epoch that has just ended; the averaged weights are what is validated."""
    loss, error, kl = _three([value / images for value in state.sums])
    held: tuple[float | None, ...] = (None, None, None)
    if validation is not None:
        with state.averaged() as model:
            held = evaluate(model, validation, config, variance=state.variance, ranks=ranks)
        check_finite(held[0], f"validation loss of epoch {epoch}", config)
    return Epoch(epoch, loss, error, kl, state.seconds, images / state.seconds, *held)


@torch.no_grad()
def evaluate(
    model: Model, data: Rows, config: TrainConfig, *, variance: float = 0.5,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
) -> tuple[float, float, float]:  # fmt: skip
    """Loss, reconstruction and KL by the training objective in float32, means over `data`.

    The KL has its full weight, and everything random is drawn anew from the same seed at each call,
    so that epochs compare.

    Args:
        model: put in evaluation mode.
        data: the images that this process holds.
        config: the recipe.
        variance: of the pixels, for the `gaussian` objective.
        ranks: the processes that evaluate together.
    """
    model.eval()
    noise = torch.Generator(data.device).manual_seed(config.seed)
    compute = Pass(model, replace(config, precision="float32"))
    rows = []  # f64[1 + D + 1] of each chunk: sums of reconstruction, KL and bound
    for batch in Batches(data, model.config, config, ranks, noise).all():
        terms: Terms = compute(batch, config.beta, variance)
        bound = terms.reconstruction if terms.bound is None else terms.bound
        columns = (terms.reconstruction[:, None], terms.kl, bound[:, None])
        rows.append(torch.cat(columns, 1).sum(0, dtype=torch.float64))
    found = ranks.mean(torch.stack(rows).sum(0) / len(data))
    weighted = config.importance_samples > 1
    means = Terms(found[0], found[1:-1], found[-1] if weighted else None)
    loss = total(means, config.beta, config.free_bits)
    return loss.item(), means.reconstruction.item(), means.kl.sum().item()


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of step `step`, from 0, of `steps`."""
    if config.schedule == "constant":
        return config.learning_rate
    top = _RISE * steps
    if step < top:
        share = _START + (1 - _START) * (1 - math.cos(math.pi * step / top)) / 2
    else:
        share = (1 + math.cos(math.pi * (step - top) / (steps - top))) / 2
    return config.learning_rate * share


def kl_weight(config: TrainConfig, step: int, steps: int) -> float:
    """The weight of the KL at step `step`, from 0, where an epoch has `steps`."""
    warmup = config.kl_warmup * steps
    return config.beta * (min(1.0, step / warmup) if warmup else 1.0)


def out_of_patience(history: list[Epoch], config: TrainConfig) -> bool:
    """Whether the last `patience` epochs brought no better validation loss."""
    if not config.patience or not history:
        return False
    return len(history) - 1 - best_epoch(history) >= config.patience


def _three(values: list[float]) -> tuple[float, float, float]:
    """Loss, reconstruction and KL."""
    loss, error, kl = values
    return loss, error, kl


def check_finite(value: float, what: str, config: TrainConfig) -> None:
    """Refuse to go on with a loss that is no number.

    Raises:
        UsageError: what to lower.
    """
    if not math.isfinite(value):
        raise UsageError(
            f"training diverged: the {what} is {value}. "
            f"Lower the learning rate ({config.learning_rate:g}) or beta ({config.beta:g})."
        )
