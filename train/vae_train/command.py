"""What `vae-train` does once its options are parsed."""

from __future__ import annotations

import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, cast

import click

from vae_models import Family, ModelConfig, preset
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.console import is_small_integer, parse_size, print_status
from vae_runtime.datasets import Dataset, load_dataset, load_test
from vae_runtime.errors import FileError, UsageError

from .checkpoint import Checkpoint, save_checkpoint
from .checks import require_labels
from .config import TrainConfig, recipe
from .config_file import to_toml
from .device import pick_device, pick_precision
from .folder import RunFolder, bare, write_record
from .loop import Stopped
from .memory import keep_memory, memory_errors
from .processes import joined
from .progress import Progress
from .ranks import Ranks
from .report import Recorder
from .run import train
from .state import Epoch

# Options that would be without effect elsewhere.
_ONLY = {
    "label_join": ("cvae",),
    "encoder_join": ("cvae",),
    "label_dropout": ("cvae",),
    "guidance": ("cvae",),
    **dict.fromkeys(
        (
            "beta",
            "kl_warmup",
            "free_bits",
            "importance_samples",
            "importance_epochs",
            "prior_spread",
        ),
        ("vae", "cvae"),
    ),
}


def train_command(
    family: str, source: str, out: Path, options: dict[str, Any], command: str
) -> None:
    """Load the data, train, write the checkpoint to `out`, say where it is and how good."""
    _check_options(family, options, command)
    options |= {"size": parse_size(options["size"]), "hidden": _numbers(options["hidden"])}
    metrics: Path | None = options["metrics"]
    for path in (out,) if metrics is None else (out, metrics):
        _check_writable(path)
    keep_memory()
    with joined(options["device"]) as (ranks, device):
        data, test = _load(source, options, ranks)
        model = _model(options, cast(Family, family), data)
        config = _config(options, family, model, device)
        resolved = _resolved(family, source, options, model, config)
        folder = RunFolder.beside(out, options["save_every"], resolved)
        _check_apart(metrics, folder)
        first = ranks.rank == 0
        recorder = _recorder(folder, options, first=first)
        quiet = options["quiet"] or not first
        with Progress(config.epochs, parts=family != "ae", quiet=quiet) as progress:

            def on_epoch(epoch: Epoch) -> None:
                progress.epoch(epoch)
                recorder.epoch(epoch)
                if metrics and first:
                    write_record(metrics, asdict(epoch))

            try:
                with memory_errors():
                    checkpoint = train(
                        data,
                        model,
                        config,
                        test=test,
                        prior=options["prior"],
                        components=options["components"],
                        device=device,
                        threads=options["threads"],
                        command=command,
                        folder=folder,
                        resume=options["resume"],
                        ranks=ranks,
                        interruptible=True,
                        on_step=progress.step,
                        on_epoch=on_epoch,
                        notice=print_status if first else _nothing,
                    )
            except Stopped as stopped:
                progress.close()
                if first:
                    print_status(
                        f"stopped: {folder.state} is kept. Go on with the same command and --resume"
                    )
                raise click.exceptions.Exit(128 + stopped.signal) from None
        if first:
            save_checkpoint(checkpoint, out)
            _report(checkpoint)
            recorder.finish(checkpoint, data, test, out.name, options["threads"])
            folder.finished()  # until here, --resume makes the rest again
            print_status(f"wrote {out}. Next: {_next(out)}")


def _check_options(family: str, options: dict[str, Any], command: str) -> None:
    """Refuse options without effect, and what cannot be written down."""
    for name, families in _ONLY.items():
        if options[name] is not None and family not in families:
            raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(families)} only")
    if options["prior"] == "normal" and options["prior_spread"] is not None:
        raise UsageError("--prior-spread is for a prior that is fitted, and --prior normal is not")
    try:
        command.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{command!a}: a name that is not UTF-8 cannot be recorded") from None


def _check_apart(metrics: Path | None, folder: RunFolder) -> None:
    """Refuse the run folder's own file as that of --metrics: each line would stand there twice."""
    if metrics and metrics.resolve() == folder.metrics.resolve():
        raise UsageError(f"{metrics}: is written anyway. Name another file for --metrics.")


def _next(out: Path) -> str:
    """The command that exports it; a name without an ending leaves none for the bundle."""
    return f"vae-export --ckpt {out}{'' if bare(out) != out else ' --out bundle'}"


def _recorder(folder: RunFolder, options: dict[str, Any], *, first: bool) -> Recorder:
    report, tensorboard = not options["no_report"], options["tensorboard"]
    return Recorder(folder, report=first and report, tensorboard=first and tensorboard)


def _nothing(text: str) -> None:
    """Where another process speaks."""


def _load(source: str, options: dict[str, Any], ranks: Ranks) -> tuple[Dataset, Dataset | None]:
    """The training images, and the test split if there is one."""
    size, lazy = options["size"], ranks.world > 1
    found = []

    def load() -> None:
        data = load_dataset(source, size=size, mode=options["mode"], lazy=lazy)
        mode = ImageSpec(*data.image_shape).mode
        found.append((data, load_test(source, size=size, mode=mode, lazy=lazy)))

    ranks.first(load)  # which may have to download them
    if not found:
        load()
    return found[0]


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(is_small_integer(part) for part in parts):
        raise UsageError(f"hidden {text!r}: expected whole numbers, for example 512,256")
    return tuple(int(part) for part in parts)


def _check_writable(path: Path) -> None:
    """Hours of training must not end at a file that cannot be written."""
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected the name of a file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise FileError(f"{path}: folder {path.parent} is missing or may not be written")


def _model(options: dict[str, Any], family: Family, data: Dataset) -> ModelConfig:
    if family == "cvae":
        require_labels(data)
    changes = _those(options, ModelConfig)
    classes = len(data.classes)
    try:
        return preset(options["preset"], family, data.image_shape, classes, **changes)
    except ValueError as error:
        raise UsageError(error) from error


def _config(options: dict[str, Any], family: str, model: ModelConfig, device: str) -> TrainConfig:
    config = recipe(options["preset"], family, model.pixels, **_those(options, TrainConfig))
    return replace(config, precision=pick_precision(config.precision, pick_device(device)))


def _those(options: dict[str, Any], config: type[ModelConfig | TrainConfig]) -> dict[str, Any]:
    """The options that are fields of a config."""
    return {field.name: options[field.name] for field in fields(config) if field.name in options}


def _resolved(
    family: str, source: str, options: dict[str, Any], model: ModelConfig, config: TrainConfig
) -> str:
    """All that decides what is trained, as a file for `--config`."""
    values = {"family": family, "data": source, "preset": options["preset"]}
    for chosen in (model, config):
        values |= {name: getattr(chosen, name) for name in _those(options, type(chosen))}
    values |= {name: options[name] for name in ("prior", "components", "size", "mode")}
    if options["prior"] == "normal":
        del values["prior_spread"]
    if values["size"] is not None:
        values["size"] = "x".join(map(str, values["size"]))
    return to_toml({k: v for k, v in values.items() if family in _ONLY.get(k, (family,))})


def _report(checkpoint: Checkpoint) -> None:
    found = checkpoint.facts["metrics"]
    if "test_loss" in found:
        error = found["test_reconstruction"]
        a_pixel = f"({error / checkpoint.model.pixels:.4f} a pixel)"
        if checkpoint.model.family == "ae":
            print_status(f"test: loss {error:.2f} {a_pixel}")
            return
        print_status(
            f"test: loss {found['test_loss']:.2f}, reconstruction {error:.2f} {a_pixel}, "
            f"KL {found['test_kl']:.2f}"
        )
