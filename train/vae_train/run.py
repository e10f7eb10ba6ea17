"""From a data set and two configs to a checkpoint: what `vae-train` runs."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vae_models import ModelConfig, build
from vae_runtime import __version__
from vae_runtime.datasets import Dataset
from vae_runtime.errors import DeviceError, UsageError

from .checkpoint import Checkpoint
from .config import TrainConfig
from .data import split, to_device
from .loop import Epoch, Step, evaluate, fit
from .prior import fit_prior

EXAMPLES = 64  # real images stored in a checkpoint


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
        prior, components: see `fit_prior`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: OpenMP threads of torch; more than one slows small models down.
        command: recorded in the checkpoint.
        on_step, on_epoch: called after each.

    Raises:
        UsageError: the data has no labels where the model needs them, or images of another shape.
        DeviceError: no CUDA where it was asked for.
    """
    _check(data, model_config)
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    target = pick_device(device)
    labelled = model_config.family == "cvae"
    training, validation = split(data, config.validation, config.seed)
    images = to_device(training, target, labelled=labelled)
    held = None if validation is None else to_device(validation, target, labelled=labelled)
    model = build(model_config).to(target)
    start = time.perf_counter()
    history = fit(model, images, held, config, on_step, on_epoch)
    seconds = time.perf_counter() - start
    fitted = fit_prior(model, images, prior, components, config.seed)
    facts: dict[str, Any] = {
        "command": command,
        "data": {"name": data.name, "training": len(training), "classes": list(data.classes)},
        "epochs": len(history),
        "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": {
            k: v for k, v in asdict(history[-1]).items() if v is not None and k != "epoch"
        },
        "prior_held_out_log_likelihood": fitted.held_out_log_likelihood,
        "versions": versions(),
    }
    if test is not None:
        images = to_device(test, target, labelled=labelled)
        names = ("test_loss", "test_reconstruction", "test_kl")
        facts["metrics"] |= dict(zip(names, evaluate(model, images, config), strict=True))
        facts["data"]["test"] = len(test)
    examples = (data if test is None else test).take(slice(0, EXAMPLES))
    return Checkpoint(
        model_config,
        model.state_dict(),
        config,
        fitted.prior,
        torch.tensor(examples.images),
        torch.tensor(examples.labels) if labelled and examples.labels is not None else None,
        data.classes if labelled else (),
        facts,
    )


def pick_device(device: str) -> torch.device:
    """The torch device that a `--device` word means."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {device}: torch {torch.__version__} sees no CUDA device")
    return torch.device(device)


def versions() -> dict[str, str]:
    """What produced a checkpoint: this project, torch, Python."""
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _check(data: Dataset, config: ModelConfig) -> None:
    if data.image_shape != config.image_shape:
        raise UsageError(f"{data.name}: images {data.image_shape}, model {config.image_shape}")
    if config.family == "cvae" and data.labels is None:
        raise UsageError(f"{data.name}: no labels, and a cvae needs them. Train ae or vae.")
    if config.family == "cvae" and len(data.classes) != config.classes:
        raise UsageError(f"{data.name}: {len(data.classes)} classes, model has {config.classes}")
