"""Run `vae-train`: load the data, train, and write the checkpoint and its report."""

from __future__ import annotations

from dataclasses import asdict, replace

import click

from vae_models import ModelConfig, preset
from vae_runtime.bundle.spec import ImageSpec
from vae_runtime.console import check_parent_folder, print_status
from vae_runtime.datasets import Dataset, load_dataset, load_test
from vae_runtime.dependencies import require
from vae_runtime.errors import FileError, UsageError

from .checkpoint import Checkpoint, save_checkpoint
from .config import TrainConfig, recipe
from .device import catch_out_of_memory, keep_freed_memory, pick_device, pick_precision, use_threads
from .distributed import ProcessGroup, join_processes
from .loop import Stopped
from .options import TrainOptions
from .progress import Progress, TensorBoard
from .report import TrainedModel, write_report
from .run import check_labels, train
from .run_folder import RunFolder, append_json_line, without_extension
from .state import Epoch


def run_command(options: TrainOptions, command: str) -> None:
    """Train with these options; `command` is the command line to record in the checkpoint."""
    # Reject unwritable output files now rather than after hours of training.
    for path in filter(None, (options.out, options.metrics)):
        if path.is_dir():
            raise FileError(f"{path}: is a folder, expected a file")
        check_parent_folder(path)
    if not options.no_report:
        require("vae-train", "matplotlib")
    keep_freed_memory()
    with join_processes(options.device) as (group, device):
        data, test = _load_data(options, group)
        model = _model_config(options, data)
        config = recipe(options.preset, model.family, model.pixels, **options.config_overrides)
        config = replace(config, precision=pick_precision(config.precision, pick_device(device)))
        folder = _run_folder(options, model, config)
        tensorboard = TensorBoard(folder.path) if options.tensorboard and group.is_first else None
        quiet = options.quiet or not group.is_first
        progress = Progress(config.epochs, terms=model.family != "ae", quiet=quiet)

        def on_epoch(epoch: Epoch) -> None:
            progress.epoch(epoch)
            if tensorboard:
                tensorboard.epoch(epoch)
            if options.metrics and group.is_first:
                append_json_line(options.metrics, asdict(epoch))

        try:
            with progress, catch_out_of_memory():
                checkpoint = train(
                    data,
                    model,
                    config,
                    test=test,
                    prior=options.prior,
                    components=options.components,
                    device=device,
                    threads=options.threads,
                    command=command,
                    folder=folder,
                    resume=options.resume,
                    group=group,
                    interruptible=True,
                    on_step=progress.step,
                    on_epoch=on_epoch,
                    log=print_status if group.is_first else lambda text: None,
                )
        except Stopped as stopped:
            if group.is_first:
                print_status(
                    f"stopped: the state is saved in {folder.state}. Repeat the command with "
                    "--resume to continue"
                )
            raise click.exceptions.Exit(128 + stopped.signal) from None
        if group.is_first:
            _write_results(options, checkpoint, data, test, folder, tensorboard)


def _write_results(
    options: TrainOptions,
    checkpoint: Checkpoint,
    data: Dataset,
    test: Dataset | None,
    folder: RunFolder,
    tensorboard: TensorBoard | None,
) -> None:
    """Write the checkpoint and the report, and print what was written."""
    save_checkpoint(checkpoint, options.out)
    _print_test_losses(checkpoint)
    pictures = []
    if not options.no_report:
        trained = TrainedModel.from_run(checkpoint, folder.history(), data, test)
        with use_threads(options.threads):
            report = write_report(trained, folder.path, f"Training of {options.out.name}")
        for finding in report.findings:
            print_status(f"{finding.level}: {finding.observation} Try: {finding.advice}")
        print_status(f"report: {folder.path / 'report.html'}")
        pictures = report.pictures
    if tensorboard:
        tensorboard.close(pictures)
    # The state is kept up to this point, so that --resume can repeat the steps above if one fails.
    folder.state.unlink(missing_ok=True)
    # Without an extension, vae-export cannot derive the name of the bundle.
    bundle = "" if without_extension(options.out) != options.out else " --out bundle"
    print_status(f"wrote {options.out}. Next: vae-export --ckpt {options.out}{bundle}")


def _load_data(options: TrainOptions, group: ProcessGroup) -> tuple[Dataset, Dataset | None]:
    """Load the training images, and the test split if there is one."""
    lazy = group.world_size > 1
    loaded = []

    def load() -> None:
        data = load_dataset(options.data, size=options.size, mode=options.mode, lazy=lazy)
        mode = ImageSpec(*data.image_shape).mode
        loaded.append((data, load_test(options.data, size=options.size, mode=mode, lazy=lazy)))

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


def _run_folder(options: TrainOptions, model: ModelConfig, config: TrainConfig) -> RunFolder:
    toml = options.to_toml(model, config)
    folder = RunFolder.for_checkpoint(options.out, options.save_every, toml)
    if options.metrics and options.metrics.resolve() == folder.metrics.resolve():
        raise UsageError(
            f"{options.metrics}: vae-train writes this file anyway. Use another file for --metrics."
        )
    return folder


def _print_test_losses(checkpoint: Checkpoint) -> None:
    metrics = checkpoint.metadata["metrics"]
    if "test_loss" not in metrics:
        return
    error = metrics["test_reconstruction"]
    per_pixel = f"({error / checkpoint.model.pixels:.4f} per pixel)"
    if checkpoint.model.family == "ae":
        print_status(f"test: loss {error:.2f} {per_pixel}")
    else:
        print_status(
            f"test: loss {metrics['test_loss']:.2f}, reconstruction {error:.2f} {per_pixel}, "
            f"KL {metrics['test_kl']:.2f}"
        )
