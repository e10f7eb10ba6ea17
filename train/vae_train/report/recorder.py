"""Follows a run of `vae-train` from its first epoch to its report."""

from __future__ import annotations

import json

from vae_runtime.console import print_status
from vae_runtime.datasets import Dataset
from vae_runtime.dependencies import require

from ..checkpoint import Checkpoint
from ..device import use_threads
from ..folder import RunFolder
from ..state import Epoch
from .board import Board
from .subject import Subject
from .write import write_report


class Recorder:
    """Feeds TensorBoard; at the end writes the report and says what it found.

    Args:
        folder: of the run; holds the metrics of every epoch, also of those before a resume.
        report: whether to write a report.
        tensorboard: whether to write an event file for TensorBoard.

    Raises:
        MissingExtra: no matplotlib, or no tensorboard where it is asked for.
    """

    def __init__(self, folder: RunFolder, *, report: bool, tensorboard: bool) -> None:
        if report:
            require("vae-train", "matplotlib")
        self._folder = folder
        self._report = report
        self._board = Board(folder.path) if tensorboard else None

    def epoch(self, epoch: Epoch) -> None:
        """Note a finished epoch."""
        if self._board:
            self._board.epoch(epoch)

    def finish(
        self,
        checkpoint: Checkpoint,
        data: Dataset,
        test: Dataset | None,
        name: str,
        threads: int = 1,
    ) -> None:
        """Write the report; one line on standard error for each thing that it found."""
        if self._report:
            lines = self._folder.metrics.read_text(encoding="utf-8").splitlines()
            history = [Epoch(**json.loads(line)) for line in lines]
            subject = Subject.of(checkpoint, history, data, test)
            with use_threads(threads):
                report = write_report(subject, self._folder.path, f"Training of {name}")
            for line in report.lines():
                print_status(line)
            print_status(f"report: {self._folder.path / 'report.html'}")
            if self._board:
                self._board.pictures(report.pictures)
        if self._board:
            self._board.close()
