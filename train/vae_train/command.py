"""What `vae-train` does once its options are parsed."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vae_models import preset
from vae_runtime.cli.entry import note
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import FileError, NotFound, UsageError

from .checkpoint import save_checkpoint
from .config import recipe
from .progress import Progress
from .run import train, write_record

_MODEL = ("backbone", "latent_dim", "label_join", "encoder_join")
_TRAIN = (
    "objective", "beta", "epochs", "batch_size", "learning_rate", "schedule", "precision",
    "label_dropout", "validation", "seed",
)  # fmt: skip


def train_command(
    family: str, source: str, out: Path, options: dict[str, Any], command: str
) -> None:
    """Load the data, train, write the checkpoint to `out`, say where it is and how good."""
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise FileError(f"{out}: folder {out.parent} is missing or may not be written")
    size = parse_size(options["size"])
    data = load_dataset(source, size=size, mode=options["mode"])
    test = _test_split(source, size, data)
    hidden = _numbers(options["hidden"])
    try:
        model = preset(
            options["preset"], family, data.image_shape, len(data.classes),  # type: ignore[arg-type]
            hidden=hidden, **{name: options[name] for name in _MODEL},
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(error) from error
    config = recipe(
        options["preset"], family, model.pixels, **{name: options[name] for name in _TRAIN}
    )
    if family == "cvae" and not model.null_label:
        config = replace(config, label_dropout=0.0)
    with ExitStack() as stack:
        progress = stack.enter_context(Progress(config.epochs, quiet=options["quiet"]))
        metrics: Path | None = options["metrics"]

        def on_epoch(epoch: Any) -> None:
            progress.epoch(epoch)
            if metrics:
                write_record(metrics, asdict(epoch))

        checkpoint = train(
            data, model, config, test=test, prior=options["prior"],
            components=options["components"], device=options["device"],
            threads=options["threads"], command=command,
            on_step=progress.step, on_epoch=on_epoch,
        )  # fmt: skip
    save_checkpoint(checkpoint, out)
    found = checkpoint.facts["metrics"]
    if "test_loss" in found:
        pixels = model.pixels
        note(
            f"test: loss {found['test_loss']:.2f}, reconstruction "
            f"{found['test_reconstruction']:.2f} ({found['test_reconstruction'] / pixels:.4f} a "
            f"pixel), KL {found['test_kl']:.2f}"
        )
    note(f"wrote {out}. Next: vae-export --ckpt {out}")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`64x48` → (64, 48), height first."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and 0 < int(p) < 10_000 for p in parts):
        raise UsageError(f"size {text!r}: expected HxW, for example 64x64")
    return int(parts[0]), int(parts[1])


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise UsageError(f"hidden {text!r}: expected whole numbers, for example 512,256")
    return tuple(int(part) for part in text.split(","))


def _test_split(source: str, size: tuple[int, int] | None, data: Dataset) -> Dataset | None:
    try:
        mode = "L" if data.image_shape[0] == 1 else "RGB"
        return load_dataset(source, "test", size=size, mode=mode)
    except NotFound:
        return None
