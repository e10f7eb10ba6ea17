"""Report the progress of a training run on standard error, in a file and in TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich import progress
from rich.console import Console

from vae_runtime.errors import FileError, MissingExtra, UsageError, describe_os_error
from vae_runtime.images import read_image

from .checkpoint import Checkpoint
from .loop import Callback, Step
from .objective import Model
from .prior_fit import LINE_S
from .report import Picture
from .run_folder import RunFolder, append_json_line
from .state import Epoch

_REDRAW_S = 0.1
_MAX_LINE = 65_536  # bytes of a line of metrics


class Progress(progress.Progress, Callback):
    """Prints one line per epoch, and shows the progress within an epoch.

    On a terminal, that is a progress bar; elsewhere, a line every half minute.

    Args:
        epochs: the total number of epochs.
        first_line: a line to print before the first epoch, if not empty.
        terms: whether to show the reconstruction and KL terms of the loss.
        quiet: print nothing.
    """

    def __init__(
        self, epochs: int, first_line: str = "", *, terms: bool = True, quiet: bool = False
    ) -> None:
        console = Console(stderr=True, quiet=quiet, highlight=False)
        super().__init__(
            progress.TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            progress.BarColumn(None),
            progress.TextColumn("{task.fields[text]}"),
            progress.TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._bar = self.add_task("", total=None, epoch=1, epochs=epochs, text="")
        self._epochs, self._first_line, self._terms = epochs, first_line, terms
        self._last_output = time.monotonic()

    def on_train_begin(self, steps: int) -> None:
        """Print the first line."""
        if self._first_line:
            self._print(self._first_line)

    def on_step_end(self, step: Step) -> None:
        """Advance the bar, at most ten times per second; without a bar, print a line if due."""
        now = time.monotonic()
        if now - self._last_output < (LINE_S if self.disable else _REDRAW_S):
            return
        self._last_output = now
        text = f"{self._losses(step, 'rec')} {step.images_per_second:,.0f} images/s"
        if self.disable:
            self._print(f"epoch {step.epoch}/{self._epochs}, step {step.step}/{step.steps}: {text}")
            return
        self.update(
            self._bar,
            total=step.steps * self._epochs,
            completed=step.steps * (step.epoch - 1) + step.step,
            epoch=step.epoch,
            text=text,
        )

    def on_epoch_end(self, epoch: Epoch, model: Model | None = None) -> None:
        """Print the losses of a finished epoch."""
        if self.disable:
            self._last_output = time.monotonic()
        validation = epoch.validation_loss
        held_out = "" if validation is None else f" validation {validation:.2f}"
        left = timedelta(seconds=round(epoch.seconds * (self._epochs - epoch.epoch)))
        self._print(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"{self._losses(epoch, 'reconstruction')}{held_out} "
            f"({epoch.images_per_second:,.0f} images/s, {left} left)"
        )

    def _print(self, line: str) -> None:
        self.console.print(line, soft_wrap=True)  # otherwise rich wraps at the width it assumes

    def _losses(self, means: Step | Epoch, reconstruction: str) -> str:
        loss = f"loss {means.loss:.2f}"
        if not self._terms:
            return loss
        return f"{loss} {reconstruction} {means.reconstruction:.2f} KL {means.kl:.2f}"


class MetricsFile(Callback):
    """Appends each epoch's metrics to a file, as JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def check(path: Path, out: Path | None) -> None:
        """Check that metrics can be appended to `path`, where `out` is the checkpoint to write.

        Raises:
            UsageError: the file is one that the run itself writes, or does not hold JSON lines.
        """
        written = [] if out is None else [out, RunFolder.for_checkpoint(out).metrics]
        if path.resolve() in [each.resolve() for each in written]:
            raise UsageError(
                f"{path}: vae-train writes this file anyway. Use another file for --metrics."
            )
        if not path.is_file():  # new, or a pipe
            return
        try:
            with path.open("rb") as file:
                json.loads(file.readline(_MAX_LINE) or b"{}")
        except OSError as error:
            raise FileError(f"{path}: {describe_os_error(error)}") from error
        except ValueError as error:
            raise UsageError(
                f"{path}: exists and does not hold JSON lines. Use another file for --metrics."
            ) from error

    def on_epoch_end(self, epoch: Epoch, model: Model) -> None:
        """Append a line."""
        append_json_line(self.path, asdict(epoch))


class TensorBoard(Callback):
    """Writer of an event file in `folder`, for `tensorboard --logdir`.

    Raises:
        MissingExtra: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra(
                "--tensorboard needs tensorboard, not installed here. Run: pip install tensorboard"
            )
        self._folder = folder
        self._epoch = 0

    def on_train_begin(self, steps: int) -> None:
        """Create the file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self._folder))

    def on_epoch_end(self, epoch: Epoch, model: Model) -> None:
        """Write the speed and the losses (`training/loss`, `validation/loss` and so on)."""
        self._epoch = epoch.epoch
        for name, value in asdict(epoch).items():
            if name == "epoch" or value is None:
                continue
            term = name.removeprefix("validation_")
            part = "validation" if term != name else "training"
            self._writer.add_scalar(f"{part}/{term}", value, epoch.epoch)
        self._writer.flush()

    def add(self, pictures: Sequence[Picture]) -> None:
        """Write the report's pictures with the last epoch as their step."""
        for picture in pictures:
            self._writer.add_image(picture.name, read_image(picture.png, mode="RGB"), self._epoch)

    def on_train_end(self, checkpoint: Checkpoint) -> None:
        """Close the file."""
        self._writer.close()
