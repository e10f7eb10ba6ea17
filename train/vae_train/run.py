"""From a data set and two configs to a checkpoint: what `vae-train` runs."""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vae_models import ModelConfig, build
from vae_runtime import __version__
from vae_runtime.datasets import Dataset
from vae_runtime.errors import DeviceError, UsageError
from vae_runtime.files import append_line

from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import split, to_device
from .loop import Epoch, Step, evaluate, fit
from .prior import check_kind, fit_prior

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
    on_step: Callable[[Step], None] = lambda step: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Checkpoint:
    """Train a model, fit its prior, measure it.

    Args:
        data: the training images; with labels for a CVAE.
        model_config: what to build.
        config: how to train it.
        test: measured at the end, if given.
        prior: see `fit_prior`.
        components: see `fit_prior`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: OpenMP threads of torch; more than one slows small models down.
        command: recorded in the checkpoint.
        on_step: called after each optimiser step.
        on_epoch: called after each epoch.

    Raises:
        UsageError: data, model and recipe do not go together (found before any training), or the
            loss is no longer finite.
        DeviceError: no CUDA where it was asked for.
    """
    _check(data, test, model_config, config)
    check_kind(prior, model_config)
    target = pick_device(device)
    labelled = model_config.family == "cvae"
    training, validation = split(data, config.validation, config.seed)
    images = to_device(training, target, labelled=labelled)
    held = None if validation is None else to_device(validation, target, labelled=labelled)
    with torch.random.fork_rng(devices=[]), _threads(threads):
        torch.manual_seed(config.seed)
        model = build(model_config).to(target)
        start = time.perf_counter()
        history = fit(model, images, held, config, on_step, on_epoch)
        seconds = time.perf_counter() - start
        fitted = fit_prior(model, images, prior, components, config.seed)
        metrics = _metrics(history[-1])
        if test is not None:
            measured = evaluate(model, to_device(test, target, labelled=labelled), config)
            metrics |= dict(zip(_TEST_METRICS, measured, strict=True))
    examples = (data if test is None else test).take(slice(0, EXAMPLES))
    return Checkpoint(
        model_config,
        model.state_dict(),
        config,
        fitted.prior,
        torch.tensor(examples.images),
        torch.tensor(examples.labels) if labelled and examples.labels is not None else None,
        data.classes if labelled else (),
        {
            "command": command,
            "data": {
                "name": data.name,
                "training": len(training),
                "classes": list(data.classes),
                **({} if test is None else {"test": len(test)}),
            },
            "epochs": len(history),
            "seconds": round(seconds, 1),
            "parameters": sum(p.numel() for p in model.parameters()),
            "metrics": metrics,
            "prior_held_out_log_likelihood": fitted.held_out_log_likelihood,
            "versions": versions(),
        },
    )


def require_labels(data: Dataset) -> None:
    """Refuse a data set without labels.

    Raises:
        UsageError: what to train instead.
    """
    if data.labels is None:
        raise UsageError(f"{data.name}: no labels, and a cvae needs them. Train ae or vae.")


def pick_device(device: str) -> torch.device:
    """The torch device that a `--device` word means.

    Raises:
        UsageError: another word than `auto`, `cpu`, `cuda` or `cuda:N`.
        DeviceError: a CUDA device that is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device, re.ASCII):
        raise UsageError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    if device != "cpu" and int(device[5:] or 0) >= count:
        raise DeviceError(
            f"device {device}: torch {torch.__version__} sees {count} CUDA devices. "
            "Use --device cpu, or install a torch built for CUDA."
        )
    return torch.device(device)


def versions() -> dict[str, str]:
    """What produced a checkpoint: this project, torch, Python."""
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a file of JSON lines.

    Raises:
        FileError: the file cannot be written.
    """
    append_line(path, json.dumps(record).encode())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, and give a caller's own setting back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _metrics(last: Epoch) -> dict[str, float]:
    """The losses of the last epoch, training and validation; what was not measured is left out."""
    other = ("epoch", "seconds", "images_per_second")
    return {k: v for k, v in asdict(last).items() if k not in other and v is not None}


def _check(data: Dataset, test: Dataset | None, model: ModelConfig, config: TrainConfig) -> None:
    """Refuse, before anything is trained, what would fail or mean nothing afterwards."""
    for part in (data,) if test is None else (data, test):
        _check_images(part, model)
    if config.label_dropout and not model.null_label:
        raise UsageError(
            f"label_dropout is {config.label_dropout}, expected 0: this {model.family} has no row "
            "for a missing label (the default preset's cvae has)"
        )
    if model.family != "cvae":
        return
    if len(data.classes) != model.classes:
        raise UsageError(f"{data.name}: {len(data.classes)} classes, model has {model.classes}")
    # Labels are indices: a test split may lack the last classes, and no others.
    if test is not None and test.classes != data.classes[: len(test.classes)]:
        raise UsageError(
            f"{test.name}: the classes of the test split are not those of the training"
        )


def _check_images(data: Dataset, model: ModelConfig) -> None:
    if data.image_shape != model.image_shape:
        raise UsageError(
            f"{data.name}: images of {data.image_shape} (C, H, W), expected {model.image_shape} "
            "as the model. Image files are resized by --size HxW."
        )
    if data.image_shape[0] not in (1, 3):
        raise UsageError(f"{data.name}: {data.image_shape[0]} channels, expected 1 or 3")
    if model.family == "cvae":
        require_labels(data)
