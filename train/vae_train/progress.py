"""Report the progress of a training run on standard error and in TensorBoard."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from rich import progress
from rich.console import Console

from vae_runtime.errors import MissingExtra
from vae_runtime.images import read_image

from .loop import Step
from .report import Picture
from .state import Epoch

_REDRAW_S = 0.1


class Progress(progress.Progress):
    """Shows a progress bar if the output is a terminal, and prints one line per epoch.

    Args:
        epochs: the total number of epochs.
        terms: whether to show the reconstruction and KL terms of the loss.
        quiet: print nothing.
    """

    def __init__(self, epochs: int, *, terms: bool = True, quiet: bool = False) -> None:
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
        self._epochs, self._terms = epochs, terms
        self._last_draw = 0.0

    def step(self, step: Step) -> None:
        """Advance the bar, at most ten times per second."""
        now = time.monotonic()
        if now - self._last_draw < _REDRAW_S:
            return
        self._last_draw = now
        self.update(
            self._bar,
            total=step.steps * self._epochs,
            completed=step.steps * (step.epoch - 1) + step.step,
            epoch=step.epoch,
            text=f"{self._losses(step, 'rec')} {step.images_per_second:,.0f} images/s",
        )

    def epoch(self, epoch: Epoch) -> None:
        """Print the losses of a finished epoch."""
        validation = epoch.validation_loss
        held_out = "" if validation is None else f" validation {validation:.2f}"
        left = timedelta(seconds=round(epoch.seconds * (self._epochs - epoch.epoch)))
        self.console.print(
            f"epoch {epoch.epoch}/{self._epochs}: "
            f"{self._losses(epoch, 'reconstruction')}{held_out} "
            f"({epoch.images_per_second:,.0f} images/s, {left} left)",
            soft_wrap=True,  # otherwise rich wraps the line at the width it assumes
        )

    def _losses(self, means: Step | Epoch, reconstruction: str) -> str:
        loss = f"loss {means.loss:.2f}"
        if not self._terms:
            return loss
        return f"{loss} {reconstruction} {means.reconstruction:.2f} KL {means.kl:.2f}"


class TensorBoard:
    """Writer of an event file in `folder`, for `tensorboard --logdir`.

    Raises:
        MissingExtra: the package `tensorboard` is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise MissingExtra(
                "--tensorboard needs tensorboard, not installed here. Run: pip install tensorboard"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))
        self._epoch = 0

    def epoch(self, epoch: Epoch) -> None:
        """Write the speed and the losses (`training/loss`, `validation/loss` and so on)."""
        self._epoch = epoch.epoch
        for name, value in asdict(epoch).items():
            if name == "epoch" or value is None:
                continue
            term = name.removeprefix("validation_")
            part = "validation" if term != name else "training"
            self._writer.add_scalar(f"{part}/{term}", value, epoch.epoch)
        self._writer.flush()

    def close(self, pictures: Sequence[Picture] = ()) -> None:
        """Write the report's pictures with the last epoch as their step, and close the file."""
        for picture in pictures:
            self._writer.add_image(picture.name, read_image(picture.png, mode="RGB"), self._epoch)
        self._writer.close()
