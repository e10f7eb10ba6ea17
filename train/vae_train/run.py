"""Train a model, fit its prior, evaluate the model and assemble the checkpoint."""

from __future__ import annotations

import math
import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models import CVAE, ModelConfig, build
from vae_models.autoencoder import scale_logits
from vae_runtime import __version__
from vae_runtime.datasets import Dataset
from vae_runtime.detection.normality import MAX_FIT, MIN_HELD_OUT, Normality, fit_normality
from vae_runtime.errors import UsageError
from vae_runtime.metrics import Codec
from vae_runtime.prior import Prior

from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import ImageSource, ShardedData, fingerprint
from .device import pick_device, pick_precision, use_threads
from .distributed import ProcessGroup
from .loop import Callback, Diverged, Step, check_finite, evaluate, fit, steps_per_epoch
from .objective import Model
from .prior_fit import FittedPrior, check_prior, fit_prior
from .run_folder import ResumableRun, RunFolder
from .state import Epoch, State, best_epoch

EXAMPLES = 64  # number of real images stored in a checkpoint


def train_model(
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
    force: bool = False,
    group: ProcessGroup = ProcessGroup(),  # noqa: B008 - frozen
    interruptible: bool = False,
    callbacks: Sequence[Callback] = (),
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
        resume: continue from the state in `folder`, if there is one. If the run is finished, return
            its checkpoint, which then has a `sha256`.
        force: discard the state in `folder`, if there is one.
        group: the processes that train together. Each process is passed all of `data` and returns
            the same checkpoint.
        interruptible: on Ctrl-C or SIGTERM, finish the current step and raise `Stopped`.
        callbacks: called before, during and after training, except for `on_train_end`.
        log: called with one-line messages for the user.

    Raises:
        UsageError: data, model and config are incompatible with each other or with the state in
            `folder` (checked before training).
        DeviceError: the CUDA device does not exist.
        Diverged: the loss diverged; the best model before that is saved in `folder`.
        Stopped: training was interrupted; the state is saved in `folder`.
    """
    check_run(data, test, model_config, config, group)
    check_prior(prior, components, model_config)
    target = pick_device(device)
    config = replace(config, precision=pick_precision(config.precision, target))
    identity = {
        "model": model_config.to_dict(),
        "train": config.to_dict(),
        "prior": {"kind": prior, "components": components},
        "data": group.run_on_first(lambda: fingerprint(data)),
        "test": group.run_on_first(lambda: None if test is None else fingerprint(test)),
        "device": target.type,
        "processes": group.world_size,
    }
    run = ResumableRun(identity, threads, command, folder, group)
    finished = run.finished() if resume else None
    if finished is not None:
        return finished
    labelled = model_config.family == "cvae"
    sharded = ShardedData.load(data, config, target, group, labelled=labelled)
    with torch.random.fork_rng(devices=[]), use_threads(threads):
        torch.manual_seed(config.seed)
        state = State(build(model_config).to(target), config)
        run = run.begin(state, resume=resume, force=force, log=log)
        diverged = _fit(run, state, sharded, config, callbacks, interruptible=interruptible)
        _apply_guidance_and_contrast(state, sharded, config, group)

        def finish() -> tuple[FittedPrior, dict[str, Any], Normality | None]:
            images, spread = sharded.all_training(), config.prior_spread
            fitted = fit_prior(state.model, images, prior, components, config.seed, spread, log=log)
            test_images = None if test is None else sharded.whole(test)
            best = bool(config.patience or diverged)
            normal = _measure_normality(state.model, sharded)
            return fitted, _final_metrics(state, config, test_images, best=best), normal

        fitted, measured, normal = group.run_on_first(finish)
    metadata = _provenance(data, test, len(sharded.training), run) | measured
    metadata["prior_held_out_log_likelihood"] = fitted.held_out_log_likelihood
    checkpoint = _checkpoint(state, config, fitted.prior, normal, test or data, metadata)
    if diverged:
        raise Diverged(f"{diverged}{run.keep_last_good(checkpoint)}", checkpoint)
    return checkpoint


def _fit(
    run: ResumableRun,
    state: State,
    sharded: ShardedData,
    config: TrainConfig,
    callbacks: Sequence[Callback],
    *,
    interruptible: bool,
) -> Diverged | None:
    """Run the training loop; `state.model` then holds the weights to keep.

    Returns:
        The error if training diverged after the first epoch; else None.

    Raises:
        Diverged: training diverged in the first epoch, so there are no weights to keep.
    """
    steps = steps_per_epoch(sharded.own_training, config, run.group) * config.epochs

    def on_step(step: Step) -> None:
        for callback in callbacks:
            callback.on_step_end(step)

    def on_epoch(epoch: Epoch) -> None:
        run.record(epoch)
        with state.averaged_model() as model:
            model.eval()
            for callback in callbacks:
                callback.on_epoch_end(epoch, model)

    with stop_on_signal() if interruptible else nullcontext(lambda: 0) as stop_signal:
        for callback in callbacks:
            callback.on_train_begin(steps)
        try:
            fit(
                state.model, sharded.own_training, sharded.own_validation, config, on_step,
                on_epoch, state=state, group=run.group, save=run.save, stop_signal=stop_signal,
            )  # fmt: skip
        except Diverged as error:
            if state.best is None:
                run.end()
                raise
            state.finish(best=True)
            return error
    return None


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


def _final_metrics(
    state: State, config: TrainConfig, test: ImageSource | None, *, best: bool
) -> dict[str, Any]:
    """Collect the losses of the epoch whose weights were kept, and the loss on any test split."""
    kept = best_epoch(state.history) if best else len(state.history) - 1
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
    return metadata | ({"best_epoch": kept + 1} if best else {})


def _measure_normality(model: Model, data: ShardedData) -> Normality | None:
    """Measure latents and errors of reconstructions without labels.

    The images are those of this process, which are in memory: at most 5,000 of its training images,
    and those that are held out.

    Returns:
        None if fewer than 20 images are held out.
    """
    held_out = data.own_validation
    if held_out is None or len(held_out) < MIN_HELD_OUT:
        return None
    model.eval()
    codec = codec_of(model, data.device)
    return fit_normality(_pixels(data.own_training, MAX_FIT), _pixels(held_out), codec)


def codec_of(model: Model, device: torch.device) -> Codec:
    """Wrap a model on `device`, without labels, for the functions that take a `Codec`."""

    @torch.no_grad()
    def posterior(images: NDArray[np.float32], _: object) -> tuple[NDArray[np.float32], None]:
        encoded = model.encode(torch.from_numpy(images).to(device))
        mean = encoded[0] if isinstance(encoded, tuple) else encoded
        latents: NDArray[np.float32] = mean.float().cpu().numpy()
        return latents, None

    @torch.no_grad()
    def decode(latents: NDArray[np.float32], _: object) -> NDArray[np.float32]:
        decoded: Tensor = model.decode(torch.from_numpy(latents).to(device))
        pixels: NDArray[np.float32] = decoded.float().cpu().numpy()
        return pixels

    return Codec(posterior, decode, "bernoulli")


def _pixels(data: ImageSource, limit: int | None = None) -> NDArray[np.uint8]:
    """Return the images u8[N, C, H, W], at most `limit` of them, evenly spaced."""
    n = len(data)
    step = 1 if limit is None else -(-n // limit)
    return data.select(torch.arange(0, n, step, device=data.device)).pixels.cpu().numpy()


def _provenance(
    data: Dataset, test: Dataset | None, training: int, run: ResumableRun
) -> dict[str, Any]:
    """Describe the command, the data and the versions that produced a checkpoint."""
    counts = {"training": training} | ({} if test is None else {"test": len(test)})
    return {
        "command": run.command,
        "inputs": run.inputs,
        "data": {"name": data.name, "classes": list(data.classes), **counts},
        "versions": {
            "vae-onnx": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }


def _checkpoint(
    state: State,
    config: TrainConfig,
    prior: Prior,
    normality: Normality | None,
    data: Dataset,
    metadata: dict[str, Any],
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
        b"" if normality is None else normality.to_bytes(),
    )
