"""Train from options to files: what `vae-train` and `vae_train.train` both do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from vae_models import Family, ModelConfig, preset
from vae_runtime.console import check_parent_folder, track_images
from vae_runtime.datasets import Dataset, ReadOptions, load_splits
from vae_runtime.dependencies import require
from vae_runtime.errors import FileError, UsageError

from .checkpoint import Checkpoint, save_checkpoint
from .config import TrainConfig, recipe
from .device import catch_out_of_memory, pick_device, pick_precision, use_threads
from .distributed import ProcessGroup, join_processes
from .loop import Callback, Stopped
from .objective import pick_objective
from .options import TrainOptions
from .progress import MetricsFile, Progress, TensorBoard
from .report import TrainedModel, write_report
from .run import check_labels, train_model
from .run_folder import RunFolder, without_extension

Log = Callable[[str], None]


def train(
    family: Family,
    data: str | Path | Dataset,
    out: str | Path | None = None,
    *,
    test: Dataset | None = None,
    callbacks: Sequence[Callback] = (),
    log: Log = lambda text: None,
    **options: Any,
) -> Checkpoint:
    """Train a model as `vae-train` does; the same options give a checkpoint of the same bytes.

    Args:
        family: `ae`, `vae` or `cvae`.
        data: what `--data` accepts, or the training images.
        out: the checkpoint to write; the run folder is created beside it. None writes no files.
        test: the test split, if `data` is a `Dataset`; else it is read from `data`.
        callbacks: called during training; see `Callback`.
        log: called with the one-line messages that the command prints; `print`, for example.
        options: any other option of `vae-train`, with underscores: `epochs=20, latent_dim=8,
            hidden=(256, 128), size=(64, 64), no_report=True, resume=True`. The progress is shown
            only with `quiet=False`.

    Returns:
        The checkpoint. If the run was finished already (with `resume=True`), it is read from `out`.

    Raises:
        UsageError: an option is unknown or wrong, does not fit the data, or would overwrite a run.
        NotFound, InputError: the data does not exist, or is malformed.
        FileError: a file cannot be written.
        DeviceError: the device does not exist.
        LimitError: memory is exhausted.
        Diverged: the loss diverged; its `checkpoint` is the best model before that.
        Stopped: training was interrupted by Ctrl-C or SIGTERM; `resume=True` continues it.
    """
    if not isinstance(data, str | Path | Dataset):
        raise UsageError(
            f"data is a {type(data).__name__}, expected a name, a path or a Dataset. Make one: "
            "vae_runtime.datasets.Dataset(name, images), images uint8 [N, C, H, W]"
        )
    given = (data, test) if isinstance(data, Dataset) else None
    if test is not None and given is None:
        raise UsageError(f"test is given with data {str(data)!r}, expected a Dataset as data too")
    name = data.name if isinstance(data, Dataset) else str(data)
    made = TrainOptions.from_keywords(
        family=family, data=name, out=None if out is None else Path(out), **options
    )
    return run_training(made, callbacks, log, given)


def run_training(
    options: TrainOptions,
    callbacks: Sequence[Callback],
    log: Log,
    given: tuple[Dataset, Dataset | None] | None = None,
) -> Checkpoint:
    """Train with these options; see `train`.

    Args:
        options: the options.
        callbacks: called during training.
        log: called with one-line messages.
        given: the training images and the test split; None loads `options.data`.
    """
    _check_outputs(options)
    with join_processes(options.device) as (group, device), ExitStack() as stack:
        log = log if group.is_first else lambda text: None
        folder = None
        if options.out is not None:
            folder = RunFolder.for_checkpoint(options.out, options.save_every)
            stack.enter_context(_only_run(folder, options, group))
        data, test = given or _load_data(options, group, log)
        model = _model_config(options, data)
        config, reason = _train_config(options, model, data, device)
        if folder is not None:
            folder.config = options.to_toml(model, config)
        quiet = options.quiet or not group.is_first
        progress = Progress(config.epochs, reason, terms=model.family != "ae", quiet=quiet)
        tensorboard = None
        if options.tensorboard and folder is not None and group.is_first:
            tensorboard = TensorBoard(folder.path)
        metrics = MetricsFile(options.metrics) if options.metrics and group.is_first else None
        callbacks = [c for c in (progress, tensorboard, metrics) if c] + list(callbacks)
        with progress, catch_out_of_memory(), _describe_stop(folder, log):
            checkpoint = train_model(
                data, model, config, test=test, prior=options.prior,
                components=options.components, device=device, threads=options.threads,
                command=options.command(), folder=folder, resume=options.resume,
                force=options.force, group=group, interruptible=True, callbacks=callbacks, log=log,
            )  # fmt: skip
        if checkpoint.sha256:
            log(f"{options.out}: already finished, with the same options and data")
            return checkpoint
        if folder is not None and group.is_first:
            _write_results(options, folder, checkpoint, data, test, tensorboard, log)
        for callback in callbacks:
            callback.on_train_end(checkpoint)
        return checkpoint


def _write_results(
    options: TrainOptions,
    folder: RunFolder,
    checkpoint: Checkpoint,
    data: Dataset,
    test: Dataset | None,
    tensorboard: TensorBoard | None,
    log: Log,
) -> None:
    """Write the checkpoint and the report, and describe what was written."""
    assert folder.checkpoint is not None
    out = folder.checkpoint
    save_checkpoint(checkpoint, out)
    _log_test_losses(checkpoint, log)
    if not options.no_report:
        trained = TrainedModel.from_run(checkpoint, folder.history(), data, test)
        with use_threads(options.threads):
            report = write_report(trained, folder.path, f"Training of {out.name}")
        for finding in report.findings:
            log(f"{finding.level}: {finding.observation} Try: {finding.advice}")
        log(f"report: {folder.path / 'report.html'}")
        if tensorboard:
            tensorboard.add(report.pictures)
    # The state is kept up to this point, so that --resume can repeat the steps above if one fails.
    folder.finish()
    # Without an extension, vae-export cannot derive the name of the bundle.
    bundle = "" if without_extension(out) != out else " --out bundle"
    log(f"wrote {out}. Next: vae-export --ckpt {out}{bundle}")


def _log_test_losses(checkpoint: Checkpoint, log: Log) -> None:
    metrics = checkpoint.metadata["metrics"]
    if "test_loss" not in metrics:
        return
    error = metrics["test_reconstruction"]
    per_pixel = f"({error / checkpoint.model.pixels:.4f} per pixel)"
    if checkpoint.model.family == "ae":
        log(f"test: loss {error:.2f} {per_pixel}")
    else:
        log(
            f"test: loss {metrics['test_loss']:.2f}, reconstruction {error:.2f} {per_pixel}, "
            f"KL {metrics['test_kl']:.2f}"
        )


def _check_outputs(options: TrainOptions) -> None:
    """Reject unwritable output files now rather than after hours of training."""
    for path in filter(None, (options.out, options.metrics)):
        if path.is_dir():
            raise FileError(f"{path}: is a folder, expected a file")
        check_parent_folder(path)
    if options.metrics:
        MetricsFile.check(options.metrics, options.out)
    if options.out is not None and not options.no_report:
        require("vae-train", "matplotlib")


@contextmanager
def _only_run(folder: RunFolder, options: TrainOptions, group: ProcessGroup) -> Iterator[None]:
    """Keep other runs out of the folder; refuse to replace a run by mistake.

    Raises:
        UsageError: another run is in the folder, or would be replaced.
    """
    with ExitStack() as stack:

        def enter() -> None:
            # First, because a run that is refused anyway must not touch the disk.
            folder.check_free(resume=options.resume, force=options.force)
            stack.enter_context(folder.locked())

        group.run_on_first(enter)
        yield


@contextmanager
def _describe_stop(folder: RunFolder | None, log: Log) -> Iterator[None]:
    """Say how to continue if a signal stops training."""
    try:
        yield
    except Stopped:
        if folder is not None:
            log(
                f"stopped: the state is saved in {folder.state}. Repeat the command with --resume "
                "to continue"
            )
        raise


def _load_data(
    options: TrainOptions, group: ProcessGroup, log: Log
) -> tuple[Dataset, Dataset | None]:
    """Load the training images, and the test split if there is one; log what is left out."""
    lazy = group.world_size > 1
    how = ReadOptions(options.size, options.mode, lazy=lazy, track=track_images)
    labelled = options.family == "cvae"
    loaded = []

    def load() -> None:
        loaded.append(load_splits(options.data, log, how, labelled=labelled))

    group.run_on_first(load)  # the first process may have to download the data for all
    if not loaded:
        load()
    return loaded[0]


def _model_config(options: TrainOptions, data: Dataset) -> ModelConfig:
    if options.family == "cvae":
        check_labels(data)
    classes = len(data.classes)
    overrides = options.model_overrides
    try:
        return preset(options.preset, options.family, data.image_shape, classes, **overrides)
    except ValueError as error:
        raise UsageError(error) from error


def _train_config(
    options: TrainOptions, model: ModelConfig, data: Dataset, device: str
) -> tuple[TrainConfig, str]:
    """Resolve the preset, the objective that suits the data, and the precision.

    Returns:
        The config, and a line about the objective; empty if the data did not decide.
    """
    overrides, line = options.config_overrides, ""
    if options.objective is None and options.binarise:
        overrides["objective"] = "bce"
    elif options.objective is None and options.preset != "reference" and model.family != "ae":
        overrides["objective"], reason = pick_objective(data)
        line = f"objective {overrides['objective']}, since {reason}; --objective chooses another"
    config = recipe(options.preset, model.family, model.pixels, images=len(data), **overrides)
    precision = pick_precision(config.precision, pick_device(device))
    return replace(config, precision=precision), line
