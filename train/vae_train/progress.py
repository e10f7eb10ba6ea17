"""The progress bar: loss, reconstruction, KL, images a second, time left. Standard error only."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from .loop import Step
from .state import Epoch

_REDRAW_S = 0.1


class Progress:
    """A bar on a terminal; one line an epoch elsewhere; nothing if `quiet`.

    An AE's loss has no parts, so none are printed.
    """

    def __init__(self, epochs: int, *, parts: bool = True, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(None),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, epoch=1, epochs=epochs, text="")
        self._epochs, self._parts = epochs, parts
        self._drawn = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the terminal, so that a line can follow it."""
        self._bar.stop()

    def step(self, step: Step) -> None:
        """Move the bar; at most ten times a second."""
        now = time.monotonic()
        if now - self._drawn < _REDRAW_S:
            return
        self._drawn = now
        self._bar.update(
            self._task,
            total=step.steps * self._epochs,
            completed=step.steps * (step.epoch - 1) + step.step,
            epoch=step.epoch,
            text=f"{self._losses(step, 'rec')} {step.images_per_second:,.0f} images/s",
        )

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of a finished epoch."""
        held = "" if epoch.validation_loss is None else f" validation {epoch.validation_loss:.2f}"
        left = timedelta(seconds=round(epoch.seconds * (self._epochs - epoch.epoch)))
        self._console.print(
            f"epoch {epoch.epoch}/{self._epochs}: {self._losses(epoch, 'reconstruction')}{held} "
            f"({epoch.images_per_second:,.0f} images/s, {left} left)",
            soft_wrap=True,  # one line in a log, however narrow rich believes it to be
        )

    def _losses(self, means: Step | Epoch, error: str) -> str:
        loss = f"loss {means.loss:.2f}"
        if not self._parts:
            return loss
        return f"{loss} {error} {means.reconstruction:.2f} KL {means.kl:.2f}"
