"""From a data set and two configs to a checkpoint: what `vae-train` runs."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from vae_models import CVAE, ModelConfig, build
from vae_models.autoencoder import scale_logits
from vae_runtime import __version__
from vae_runtime.datasets import Dataset
from vae_runtime.prior import Prior

from .checkpoint import Checkpoint
from .checks import check
from .config import TrainConfig
from .data import Rows, fingerprint
from .device import pick_device, pick_precision, use_threads
from .folder import RunFolder
from .interrupt import asked_to_stop
from .loop import Step, check_finite, evaluate, fit
from .prior import FittedPrior, check_prior, fit_prior
from .ranks import Ranks
from .resume import Run
from .share import Share
from .state import Epoch, State, best_epoch

EXAMPLES = 64  # real images stored in a checkpoint
_TEST_METRICS = ("test_loss", "test_reconstruction", "test_kl")


def train(
    data: Dataset,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    test: Dataset | None = None,
    prior: str = "auto",
    components: int | None = None,
    device: str = "auto",
    threads: int = 1,
    command: str = "",
    folder: RunFolder | None = None,
    resume: bool = False,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    interruptible: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Train a model, fit its prior, measure it.

    Args:
        data: the training images; with labels for a CVAE. Those that are read where they are used
            (`load_dataset(…, lazy=True)`) are held by several processes a part each.
        model_config: what to build.
        config: how to train it.
        test: measured at the end, if given.
        prior: see `fit_prior`.
        components: see `fit_prior`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: OpenMP threads of torch; more than one slows small models down.
        command: recorded in the checkpoint.
        folder: where the state and the metrics are written while it trains; None keeps nothing.
        resume: go on with the state in `folder`, if there is one.
        ranks: the processes that train together, each with all of `data`; every one returns the
            same checkpoint.
        interruptible: answer Ctrl-C and SIGTERM behind the step in flight, with `Stopped`.
        on_step: called after each optimiser step.
        on_epoch: called after each epoch.
        notice: told in one line what a user should know.

    Raises:
        UsageError: data, model and recipe do not go together, or not with the state in `folder`
            (found before any training), or the loss is no longer finite.
        DeviceError: no CUDA where it was asked for.
        Stopped: a signal asked for it; the state is in `folder`.
    """
    check(data, test, model_config, config, ranks)
    check_prior(prior, components, model_config)
    target = pick_device(device)
    config = replace(config, precision=pick_precision(config.precision, target))

    labelled = model_config.family == "cvae"
    share = Share.of(data, config, target, ranks, labelled=labelled)
    digest = ranks.first(lambda: fingerprint(data))
    same = {"device": target.type, "processes": ranks.world, "data": digest}
    same |= {"model": model_config.to_dict(), "train": config.to_dict()}
    same |= {"prior": {"kind": prior, "components": components}}
    with torch.random.fork_rng(devices=[]), use_threads(threads):
        torch.manual_seed(config.seed)
        state = State(build(model_config).to(target), config)
        run = Run(same, threads, command, folder, ranks)
        run = run.begin(state, resume=resume, notice=notice)

        def record(epoch: Epoch) -> None:
            run.record(epoch)
            on_epoch(epoch)

        with asked_to_stop() if interruptible else nullcontext(lambda: 0) as stop:
            fit(
                state.model, share.own, share.held_out, config, on_step, record,
                state=state, ranks=ranks, save=run.save, stop=stop,
            )  # fmt: skip
        _sharpen(state, share, config, ranks)

        def finish() -> tuple[FittedPrior, dict[str, Any]]:
            fitted = fit_prior(
                state.model, share.all_training(), prior, components, config.seed,
                config.prior_spread,
            )  # fmt: skip
            return fitted, _measure(state, config, None if test is None else share.whole(test))

        # One process fits, for all.
        fitted, measured = ranks.first(finish)
    facts = _facts(data, test, len(share.training), run.command) | measured
    facts["prior_held_out_log_likelihood"] = fitted.held_out_log_likelihood
    return _checkpoint(state, config, fitted.prior, data if test is None else test, facts)


def _sharpen(state: State, share: Share, config: TrainConfig, ranks: Ranks) -> None:
    """Guidance and contrast, in the weights; a learned scale is then that of what they draw."""
    model = state.model
    guided = isinstance(model, CVAE) and config.guidance != 1
    if isinstance(model, CVAE) and guided:
        model.decoder_labels.guide(config.guidance)
    scale_logits(model.decoder, config.contrast)
    if config.objective == "gaussian" and (guided or config.contrast != 1):
        plain = replace(config, importance_samples=1, importance_epochs=0)
        _, nll, _ = evaluate(model, share.own, plain, variance=state.variance, ranks=ranks)
        state.set_variance(nll, model.config.pixels)


def _checkpoint(
    state: State, config: TrainConfig, prior: Prior, data: Dataset, facts: dict[str, Any]
) -> Checkpoint:
    """All that is kept; the examples are the first images of `data`."""
    model = state.model.config
    labelled = model.family == "cvae"
    examples = data.take(slice(0, EXAMPLES))
    return Checkpoint(
        model,
        state.model.state_dict(),
        config,
        prior,
        torch.tensor(np.asarray(examples.images)),
        torch.tensor(examples.labels) if labelled else None,
        tuple(facts["data"]["classes"]) if labelled else (),
        facts,
        math.sqrt(state.variance) if config.objective == "gaussian" else None,
    )


def _facts(data: Dataset, test: Dataset | None, training: int, command: str) -> dict[str, Any]:
    """What was trained on, and with what."""
    counts = {"training": training} | ({} if test is None else {"test": len(test)})
    return {
        "command": command,
        "data": {"name": data.name, "classes": list(data.classes), **counts},
        "versions": versions(),
    }


def _measure(state: State, config: TrainConfig, test: Rows | None) -> dict[str, Any]:
    """The losses of the epoch that is kept, and of the test split, if any."""
    kept = best_epoch(state.history) if config.patience else len(state.history) - 1
    metrics = _metrics(state.history[kept])
    if test is not None:
        measured = evaluate(state.model, test, config, variance=state.variance)
        check_finite(measured[0], "test loss", config)
        metrics |= dict(zip(_TEST_METRICS, measured, strict=True))
    return {
        "epochs": len(state.history),
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "metrics": metrics,
    } | ({"best_epoch": kept + 1} if config.patience else {})


def versions() -> dict[str, str]:
    """What produced a checkpoint: this project, torch, Python."""
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _metrics(epoch: Epoch) -> dict[str, float]:
    """The losses of an epoch, training and validation; what was not measured is left out."""
    other = ("epoch", "seconds", "images_per_second")
    return {k: v for k, v in asdict(epoch).items() if k not in other and v is not None}
