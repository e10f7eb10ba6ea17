"""What `vae-train` does once its options are parsed."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from vae_models import Family, ModelConfig, preset
from vae_runtime.cli.entry import note
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import FileError, NotFound, UsageError

from .checkpoint import Checkpoint, save_checkpoint
from .config import recipe
from .loop import Epoch
from .progress import Progress
from .run import require_labels, train, write_record

_MODEL = ("backbone", "latent_dim", "label_join", "encoder_join")
_TRAIN = (
    "objective",
    "beta",
    "epochs",
    "batch_size",
    "learning_rate",
    "schedule",
    "precision",
    "label_dropout",
    "validation",
    "seed",
)
# Options that would be without effect elsewhere.
_ONLY = {
    "label_join": ("cvae",),
    "encoder_join": ("cvae",),
    "label_dropout": ("cvae",),
    "beta": ("vae", "cvae"),
}


def train_command(
    family: str, source: str, out: Path, options: dict[str, Any], command: str
) -> None:
    """Load the data, train, write the checkpoint to `out`, say where it is and how good."""
    for name, families in _ONLY.items():
        if options[name] is not None and family not in families:
            raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(families)} only")
    size, hidden = parse_size(options["size"]), _numbers(options["hidden"])
    metrics: Path | None = options["metrics"]
    for path in (out,) if metrics is None else (out, metrics):
        _check_writable(path)
    data = load_dataset(source, size=size, mode=options["mode"])
    model = _model(options, cast(Family, family), data, hidden)
    config = recipe(
        options["preset"], family, model.pixels, **{name: options[name] for name in _TRAIN}
    )
    with Progress(config.epochs, quiet=options["quiet"]) as progress:

        def on_epoch(epoch: Epoch) -> None:
            progress.epoch(epoch)
            if metrics:
                write_record(metrics, asdict(epoch))

        checkpoint = train(
            data,
            model,
            config,
            test=_test_split(source, size, data),
            prior=options["prior"],
            components=options["components"],
            device=options["device"],
            threads=options["threads"],
            command=command,
            on_step=progress.step,
            on_epoch=on_epoch,
        )
    save_checkpoint(checkpoint, out)
    _report(checkpoint)
    note(f"wrote {out}. Next: vae-export --ckpt {out}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`64x48` → (64, 48), height first."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(_is_number(p) and int(p) > 0 for p in parts):
        raise UsageError(f"size {text!r}: expected HxW, for example 64x64")
    return int(parts[0]), int(parts[1])


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(_is_number(part) for part in parts):
        raise UsageError(f"hidden {text!r}: expected whole numbers, for example 512,256")
    return tuple(int(part) for part in parts)


def _is_number(text: str) -> bool:
    """Whether the text is a whole number of at most five digits."""
    return text.isdecimal() and len(text) <= 5


def _check_writable(path: Path) -> None:
    """Hours of training must not end at a file that cannot be written."""
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise FileError(f"{path}: folder {path.parent} is missing or may not be written")


def _model(
    options: dict[str, Any], family: Family, data: Dataset, hidden: tuple[int, ...] | None
) -> ModelConfig:
    if family == "cvae":
        require_labels(data)
    changes = {name: options[name] for name in _MODEL}
    try:
        return preset(
            options["preset"],
            family,
            data.image_shape,
            len(data.classes),
            hidden=hidden,
            **changes,
        )
    except ValueError as error:
        raise UsageError(error) from error


def _test_split(source: str, size: tuple[int, int] | None, data: Dataset) -> Dataset | None:
    mode = "L" if data.image_shape[0] == 1 else "RGB"
    try:
        return load_dataset(source, "test", size=size, mode=mode)
    except NotFound:
        return None


def _report(checkpoint: Checkpoint) -> None:
    found = checkpoint.facts["metrics"]
    if "test_loss" in found:
        error = found["test_reconstruction"]
        note(
            f"test: loss {found['test_loss']:.2f}, reconstruction {error:.2f} "
            f"({error / checkpoint.model.pixels:.4f} a pixel), KL {found['test_kl']:.2f}"
        )
