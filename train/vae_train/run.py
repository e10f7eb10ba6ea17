"""Train a model, fit its prior, evaluate the model and assemble the checkpoint."""

from __future__ import annotations

import math
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

import numpy as np
import torch

from vae_models import CVAE, ModelConfig, build
from vae_models.autoencoder import scale_logits
from vae_runtime import __version__
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError
from vae_runtime.prior import Prior

from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import ImageSource, ShardedData, fingerprint
from .device import pick_device, pick_precision, use_threads
from .distributed import ProcessGroup
from .loop import Step, check_finite, evaluate, fit
from .prior_fit import FittedPrior, check_prior, fit_prior
from .run_folder import ResumableRun, RunFolder
from .state import Epoch, State, best_epoch

EXAMPLES = 64  # number of real images stored in a checkpoint


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
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
    interruptible: bool = False,
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    log: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Train a model, fit its prior and evaluate the model.

    Args:
        data: the training images, which must be labelled for a CVAE. If they are read lazily
            (`load_dataset(…, lazy=True)`), each of several processes holds only its own images.
        model_config: the model to build.
        config: the training config.
        test: the test split to evaluate the final model on; None if there is none.
        prior: see `fit_prior`.
        components: see `fit_prior`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: number of OpenMP threads for torch; more than one slows down small models.
        command: the command line to record in the checkpoint.
        folder: where to save state and metrics during training; None saves nothing.
        resume: continue from the state in `folder`, if there is one.
        group: the processes that train together. Each process is passed all of `data` and returns
            the same checkpoint.
        interruptible: on Ctrl-C or SIGTERM, finish the current step and raise `Stopped`.
        on_step: called after each optimizer step.
        on_epoch: called after each epoch.
        log: called with one-line messages for the user.

    Raises:
        UsageError: data, model and config are incompatible with each other or with the state in
            `folder` (checked before training), or the loss is not finite.
        DeviceError: the CUDA device does not exist.
        Stopped: training was interrupted; the state is saved in `folder`.
    """
    check_run(data, test, model_config, config, group)
    check_prior(prior, components, model_config)
    target = pick_device(device)
    config = replace(config, precision=pick_precision(config.precision, target))
    labelled = model_config.family == "cvae"
    sharded = ShardedData.load(data, config, target, group, labelled=labelled)
    identity = {
        "model": model_config.to_dict(),
        "train": config.to_dict(),
        "prior": {"kind": prior, "components": components},
        "data": group.run_on_first(lambda: fingerprint(data)),
        "device": target.type,
        "processes": group.world_size,
    }
    run = ResumableRun(identity, threads, command, folder, group)
    with torch.random.fork_rng(devices=[]), use_threads(threads):
        torch.manual_seed(config.seed)
        state = State(build(model_config).to(target), config)
        run = run.begin(state, resume=resume, log=log)

        def record(epoch: Epoch) -> None:
            run.record(epoch)
            on_epoch(epoch)

        with stop_on_signal() if interruptible else nullcontext(lambda: 0) as stop_signal:
            fit(
                state.model, sharded.own_training, sharded.own_validation, config, on_step, record,
                state=state, group=group, save=run.save, stop_signal=stop_signal,
            )  # fmt: skip
        _apply_guidance_and_contrast(state, sharded, config, group)

        def finish() -> tuple[FittedPrior, dict[str, Any]]:
            images, spread = sharded.all_training(), config.prior_spread
            fitted = fit_prior(state.model, images, prior, components, config.seed, spread)
            test_images = None if test is None else sharded.whole(test)
            return fitted, _final_metrics(state, config, test_images)

        fitted, measured = group.run_on_first(finish)
    metadata = _provenance(data, test, len(sharded.training), run.command) | measured
    metadata["prior_held_out_log_likelihood"] = fitted.held_out_log_likelihood
    return _checkpoint(state, config, fitted.prior, data if test is None else test, metadata)


def check_run(
    data: Dataset,
    test: Dataset | None,
    model: ModelConfig,
    config: TrainConfig,
    group: ProcessGroup,
) -> None:
    """Check that data, model and config are compatible, before training starts.

    Raises:
        UsageError: they are incompatible.
    """
    _check_images(data, model)
    if test is not None:
        _check_images(test, model)
    if config.label_dropout and not model.null_label:
        raise UsageError(
            f"label_dropout is {config.label_dropout}, expected 0: this {model.family} cannot "
            "represent a missing label, but the cvae of the default preset can"
        )
    if config.importance_samples > 1 and model.family == "ae":
        raise UsageError("importance_samples is for vae and cvae only: an ae samples no latents")
    if config.batch_size % group.shards:
        raise UsageError(
            f"batch_size is {config.batch_size}, expected a multiple of {group.shards} processes"
        )
    if model.family != "cvae":
        return
    if len(data.classes) != model.classes:
        raise UsageError(f"{data.name}: {len(data.classes)} classes, the model has {model.classes}")
    # Labels are indices, so only the last classes may be missing from a test split.
    if test is not None and test.classes != data.classes[: len(test.classes)]:
        raise UsageError(
            f"{test.name}: the classes of the test split differ from those of the training split"
        )


def check_labels(data: Dataset) -> None:
    """Check that a data set for a CVAE is labelled.

    Raises:
        UsageError: the data set has no labels.
    """
    if data.labels is None:
        raise UsageError(f"{data.name}: no labels, and a cvae needs them. Train ae or vae.")


def _check_images(data: Dataset, model: ModelConfig) -> None:
    if data.image_shape != model.image_shape:
        raise UsageError(
            f"{data.name}: images are {data.image_shape} (C, H, W), the model expects "
            f"{model.image_shape}. Resize image files with --size HxW."
        )
    if data.image_shape[0] not in (1, 3):
        raise UsageError(f"{data.name}: {data.image_shape[0]} channels, expected 1 or 3")
    if model.family == "cvae":
        check_labels(data)


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], int]]:
    """Catch the first SIGINT or SIGTERM within the `with` block.

    A second signal has its usual effect. Outside the main thread, no signal is caught.

    Yields:
        A function that returns the signal number, or 0 if no signal was received.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, receive)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _apply_guidance_and_contrast(
    state: State, sharded: ShardedData, config: TrainConfig, group: ProcessGroup
) -> None:
    """Fold guidance and contrast into the weights, and re-estimate a learned variance."""
    model = state.model
    guided = isinstance(model, CVAE) and config.guidance != 1
    if isinstance(model, CVAE) and guided:
        model.decoder_labels.guide(config.guidance)
    scale_logits(model.decoder, config.contrast)
    if config.objective == "gaussian" and (guided or config.contrast != 1):
        plain = replace(config, importance_samples=1, importance_epochs=0)
        losses = evaluate(model, sharded.own_training, plain, variance=state.variance, group=group)
        state.set_variance(losses.reconstruction, model.config.pixels)


def _final_metrics(state: State, config: TrainConfig, test: ImageSource | None) -> dict[str, Any]:
    """Collect the losses of the epoch whose weights were kept, and the loss on any test split."""
    kept = best_epoch(state.history) if config.patience else len(state.history) - 1
    other = ("epoch", "seconds", "images_per_second")
    epoch = asdict(state.history[kept])
    metrics = {name: v for name, v in epoch.items() if name not in other and v is not None}
    if test is not None:
        losses = evaluate(state.model, test, config, variance=state.variance)
        check_finite(losses.loss, "test loss", config)
        metrics |= {f"test_{name}": value for name, value in losses._asdict().items()}
    metadata = {
        "epochs": len(state.history),
        "parameters": sum(p.numel() for p in state.model.parameters()),
        "metrics": metrics,
    }
    return metadata | ({"best_epoch": kept + 1} if config.patience else {})


def _provenance(data: Dataset, test: Dataset | None, training: int, command: str) -> dict[str, Any]:
    """Describe the command, the data and the versions that produced a checkpoint."""
    counts = {"training": training} | ({} if test is None else {"test": len(test)})
    return {
        "command": command,
        "data": {"name": data.name, "classes": list(data.classes), **counts},
        "versions": {
            "vae-onnx": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _checkpoint(
    state: State, config: TrainConfig, prior: Prior, data: Dataset, metadata: dict[str, Any]
) -> Checkpoint:
    """Assemble the checkpoint; its examples are the first images of `data`."""
    labelled = state.model.config.family == "cvae"
    examples = data.take(slice(0, EXAMPLES))
    return Checkpoint(
        state.model.config,
        state.model.state_dict(),
        config,
        prior,
        torch.tensor(np.asarray(examples.images)),
        torch.tensor(examples.labels) if labelled else None,
        tuple(metadata["data"]["classes"]) if labelled else (),
        metadata,
        math.sqrt(state.variance) if config.objective == "gaussian" else None,
    )
