"""The run folder next to a checkpoint (`cvae.run/` for `cvae.pt`), for resuming the run.

config.toml    the resolved options, for `vae-train --config`
metrics.jsonl  one line per epoch
state.pt       the state to resume from, removed when the run finishes
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vae_runtime.errors import FileError, InputError, UsageError, describe_os_error
from vae_runtime.files.atomic import append_line, write_atomic

from .checkpoint_file import MALFORMED, read_checkpoint_file, write_checkpoint_file
from .distributed import ProcessGroup
from .state import Epoch, State

FORMAT = 3
_EXTENSIONS = (".pt", ".pth", ".ckpt")


def without_extension(checkpoint: Path) -> Path:
    """Strip `.pt`, `.pth` or `.ckpt`; keep any other suffix, such as the `.5` in `beta0.5`."""
    return checkpoint.with_suffix("") if checkpoint.suffix in _EXTENSIONS else checkpoint


class RunFolder:
    """The files of one run. Call `make` before writing any file.

    Attributes:
        path: the folder.
        state: its `state.pt`.
        metrics: its `metrics.jsonl`.
    """

    def __init__(self, path: Path, save_every: float = 30.0, config: str = "") -> None:
        """Describe the folder without creating it.

        Args:
            path: the folder.
            save_every: seconds between saves of the state; 0 saves after every step.
            config: the content of `config.toml`.
        """
        self.path = path
        self.config = config
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"
        self._save_every = save_every
        self._last_save = time.monotonic()

    @classmethod
    def for_checkpoint(cls, out: Path, save_every: float = 30.0, config: str = "") -> RunFolder:
        """Return the folder of the run that writes the checkpoint `out`.

        Raises:
            UsageError: `save_every` is not a finite number.
        """
        if not math.isfinite(save_every):
            raise UsageError(f"save_every is {save_every}, expected a number of seconds")
        name = without_extension(out)
        return cls(name.with_name(f"{name.name}.run"), save_every, config)

    def make(self) -> None:
        """Create the folder if it does not exist.

        Raises:
            FileError: the folder cannot be created.
        """
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            reason = describe_os_error(error)
            raise FileError(f"{self.path}: {reason}, expected a run folder here") from error

    def save(self, state: State, run: dict[str, Any], *, now: bool) -> None:
        """Write the state if `now`, or if `save_every` seconds have passed since the last save.

        Args:
            state: the state after a step.
            run: a description of the run, as plain values; `load` returns it.
            now: save regardless of the time since the last save.
        """
        if now or time.monotonic() - self._last_save >= self._save_every:
            content = {"format": FORMAT, "run": run, "state": state.to_dict()}
            write_checkpoint_file(content, self.state)
            self._last_save = time.monotonic()

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read what `save` wrote: the description of the run, and the state as a dictionary.

        Raises:
            NotFound: there is no saved state.
            IntegrityError: the checksum is missing or wrong.
            InputError: the file is not a saved state, or has another format.
        """
        content, _ = read_checkpoint_file(self.state)
        try:
            found, run, state = (content[key] for key in ("format", "run", "state"))
            if found != FORMAT or not isinstance(run, dict):
                raise ValueError(found)
        except MALFORMED as error:
            raise InputError(
                f"{self.state}: not a state that this version wrote. Delete it to start again."
            ) from error
        return run, state

    def start(self, history: list[Epoch]) -> None:
        """Write the config and the metrics of finished epochs; remove temporary files."""
        for part in self.path.glob(".*.part"):  # left behind by a killed process
            part.unlink(missing_ok=True)
        if self.config:
            write_atomic(self.path / "config.toml", self.config.encode())
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
        write_atomic(self.metrics, lines.encode())

    def history(self) -> list[Epoch]:
        """Read the finished epochs, including those before a resume."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [Epoch(**json.loads(line)) for line in lines]


def append_json_line(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a JSON Lines file.

    Raises:
        FileError: the file cannot be written.
    """
    append_line(path, json.dumps(record).encode())


@dataclass(frozen=True)
class ResumableRun:
    """A resumable run: what identifies it, and where its state is saved.

    Attributes:
        identity: what must be the same when the run is resumed: model, training config, data,
            prior, device type and number of processes.
        threads: the number of OpenMP threads; with a different number, sums are rounded
            differently.
        command: the command line that started the run.
        folder: where to save state and metrics; None saves nothing.
        group: the processes that train together; only the first writes files.
    """

    identity: dict[str, Any]
    threads: int
    command: str
    folder: RunFolder | None
    group: ProcessGroup

    def begin(self, state: State, *, resume: bool, log: Callable[[str], None]) -> ResumableRun:
        """Prepare the run folder; if the run is resumed, load its saved state into `state`.

        Args:
            state: a new state.
            resume: continue from the saved state if there is one, else start from the beginning.
            log: called with one-line messages for the user.

        Returns:
            The run, whose `command` is the command line that first started it.

        Raises:
            UsageError: there is a saved state, and either `resume` is False or the state belongs to
                another run.
            IntegrityError: the saved state is damaged.
            InputError: the saved state does not fit the model.
        """
        folder = self.folder
        if folder is None:
            return self

        def make_folder() -> bool:
            folder.make()
            return folder.state.exists()

        saved = self.group.run_on_first(make_folder)
        if saved and not resume:
            raise UsageError(
                f"{folder.state}: belongs to an unfinished run. Add --resume to continue it, or "
                "delete this file to start again."
            )
        if resume and not saved:
            log(f"{folder.path}: nothing to resume, starting from the beginning")
        run = self._load(folder, state, log) if saved else self
        if self.group.is_first:
            folder.start(state.history)
        return run

    def _load(self, folder: RunFolder, state: State, log: Callable[[str], None]) -> ResumableRun:
        run, saved = self.group.run_on_first(folder.load)
        changes = differences(run.get("identity"), self.identity)
        if changes:
            raise UsageError(f"{folder.state}: belongs to another run: {'; '.join(changes)}")
        try:
            state.load_dict(saved)
        except MALFORMED as error:
            raise InputError(
                f"{folder.state}: does not fit the model. Delete it to start again."
            ) from error
        if run.get("threads") != self.threads:
            log(
                f"the run was started with --threads {run.get('threads')} and is resumed with "
                f"--threads {self.threads}: sums are rounded in another order, so the result "
                "will differ in the last bits"
            )
        log(f"resuming at epoch {len(state.history) + 1}, after {state.step} steps")
        return replace(self, command=str(run.get("command", "")))

    def save(self, state: State, last: bool) -> None:
        """Save the state if enough time has passed since the last save, or if `last`."""
        if self.folder and self.group.is_first:
            run = {"identity": self.identity, "threads": self.threads, "command": self.command}
            self.folder.save(state, run, now=last)

    def record(self, epoch: Epoch) -> None:
        """Append the metrics of a finished epoch."""
        if self.folder and self.group.is_first:
            append_json_line(self.folder.metrics, asdict(epoch))


def differences(saved: Any, current: Any, name: str = "") -> list[str]:
    """Describe each differing field by its dotted name and both values."""
    if isinstance(saved, dict) and isinstance(current, dict):
        return [
            line
            for key in sorted(saved.keys() | current.keys())
            for line in differences(saved.get(key), current.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if saved == current else [f"{name} was {saved!r}, is {current!r}"]
