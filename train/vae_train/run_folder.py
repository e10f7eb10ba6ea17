"""The run folder next to a checkpoint (`cvae.run/` for `cvae.pt`), for resuming the run.

config.toml    the resolved options, for `vae-train --config`
metrics.jsonl  one line per epoch
state.pt       the state to resume from, removed when the run finishes
last_good.pt   a checkpoint from before the loss diverged, written only if it did
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vae_runtime.errors import FileError, InputError, UsageError, VaeError, describe_os_error
from vae_runtime.files.atomic import append_line, lock_path, write_atomic

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .checkpoint_file import MALFORMED, read_checkpoint_file, write_checkpoint_file
from .distributed import ProcessGroup
from .state import Epoch, State

FORMAT = 4
_EXTENSIONS = (".pt", ".pth", ".ckpt")
_INPUTS = ("data", "test", "prior")


def without_extension(checkpoint: Path) -> Path:
    """Strip `.pt`, `.pth` or `.ckpt`; keep any other suffix, such as the `.5` in `beta0.5`."""
    return checkpoint.with_suffix("") if checkpoint.suffix in _EXTENSIONS else checkpoint


class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
        checkpoint: the checkpoint that the run writes when it finishes; None if there is none.
        config: the content of `config.toml`.
        state: its `state.pt`.
        metrics: its `metrics.jsonl`.
        last_good: its `last_good.pt`.
    """

    def __init__(
        self, path: Path, save_every: float = 30.0, checkpoint: Path | None = None
    ) -> None:
        """Describe the folder without creating it.

        Args:
            path: the folder.
            save_every: seconds between saves of the state; 0 saves after every step.
            checkpoint: the checkpoint that the run writes.
        """
        self.path = path
        self.checkpoint = checkpoint
        self.config = ""
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"
        self.last_good = path / "last_good.pt"
        self._save_every = save_every
        self._last_save = time.monotonic()

    @classmethod
    def for_checkpoint(cls, out: Path, save_every: float = 30.0) -> RunFolder:
        """Return the folder of the run that writes the checkpoint `out`.

        Raises:
            UsageError: `save_every` is not a number of seconds.
        """
        if not (math.isfinite(save_every) and save_every >= 0):
            raise UsageError(f"save_every is {save_every}, expected a number of seconds")
        name = without_extension(out)
        return cls(name.with_name(f"{name.name}.run"), save_every, out)

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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder, and keep other runs out of it within the `with` block.

        The lock is released when the process ends, even if it is killed. If the folder is empty at
        the end, it is removed.

        Raises:
            UsageError: another run holds the lock.
            FileError: the folder cannot be created.
        """
        handle = self._lock()
        try:
            yield
        finally:
            with suppress(OSError):  # not empty
                self.path.rmdir()
            if handle is not None:
                os.close(handle)

    def _lock(self) -> int | None:
        while True:
            self.make()
            try:
                handle = lock_path(self.path.resolve())
            except BlockingIOError:
                raise UsageError(
                    f"{self.path}: another run is writing to this folder. Wait until it ends, or "
                    "use another --out."
                ) from None
            # The run that held the lock before may have removed the folder.
            with suppress(FileNotFoundError):
                if handle is None or os.path.samestat(os.fstat(handle), self.path.stat()):
                    return handle
            if handle is not None:
                os.close(handle)

    def check_free(self, *, resume: bool, force: bool) -> None:
        """Check that no finished or unfinished run would be overwritten by mistake.

        Args:
            resume: an unfinished run is to be continued.
            force: a finished or unfinished run is to be replaced.

        Raises:
            UsageError: the file at `checkpoint` or the state of an unfinished run is in the way, or
                the folder belongs to another checkpoint.
        """
        out = self.checkpoint
        if self.state.exists() and not (resume or force):
            raise UsageError(
                f"{self.state}: belongs to an unfinished run. Add --resume to continue it, or "
                "--force to start again."
            )
        if out is None:
            return
        if out.exists():
            if not (resume or force):
                raise UsageError(
                    f"{out}: already exists. Use another --out, or --force to replace it."
                )
            _check_is_checkpoint(out)
        self._check_siblings(out)

    def _check_siblings(self, out: Path) -> None:
        """Check that no other checkpoint, such as `cvae.ckpt` beside `cvae.pt`, has this folder."""
        if not self.metrics.exists():  # no run was ever started here
            return
        stem = without_extension(out)
        for other in (stem, *(stem.with_name(stem.name + end) for end in _EXTENSIONS)):
            if other != out and other.is_file():
                raise UsageError(
                    f"{out}: its run folder {self.path} belongs to {other}. Use another --out."
                )

    def finished(self) -> Checkpoint | None:
        """Read the checkpoint if the run is finished; return None if it is not.

        Raises:
            IntegrityError, InputError: the checkpoint is damaged.
        """
        if self.checkpoint is None or self.state.exists() or not self.checkpoint.exists():
            return None
        return load_checkpoint(self.checkpoint)

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

    def end(self) -> None:
        """Remove the state, after which the run cannot be resumed."""
        self.state.unlink(missing_ok=True)

    def finish(self) -> None:
        """End a run whose checkpoint is written."""
        self.end()
        self.last_good.unlink(missing_ok=True)  # of an earlier run

    def history(self) -> list[Epoch]:
        """Read the finished epochs, including those before a resume."""
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [Epoch(**json.loads(line)) for line in lines]


def _check_is_checkpoint(path: Path) -> None:
    try:
        read_checkpoint_file(path)
    except VaeError as error:
        raise UsageError(
            f"{path}: is not a checkpoint, or is damaged, so vae-train does not replace it. Use "
            "another --out, or remove the file."
        ) from error


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

    @property
    def inputs(self) -> dict[str, Any]:
        """The part of the identity that is in no other field of a checkpoint."""
        return {name: self.identity[name] for name in _INPUTS}

    def finished(self) -> Checkpoint | None:
        """Read the checkpoint if this run is already finished; return None if it is not.

        Raises:
            UsageError: the checkpoint is from another run.
            IntegrityError, InputError: the checkpoint is damaged.
        """
        folder = self.folder
        checkpoint = self.group.run_on_first(folder.finished) if folder else None
        if folder is None or checkpoint is None:
            return None
        saved = {"model": checkpoint.model.to_dict(), "train": checkpoint.train.to_dict()}
        saved |= checkpoint.metadata.get("inputs", {})
        changes = differences(saved, {name: self.identity[name] for name in saved})
        if changes:
            raise UsageError(
                f"{folder.checkpoint}: belongs to another run, which is finished: "
                f"{'; '.join(changes)}. Use another --out, or --force to replace it."
            )
        return checkpoint

    def begin(
        self, state: State, *, resume: bool, force: bool, log: Callable[[str], None]
    ) -> ResumableRun:
        """Prepare the run folder; if the run is resumed, load its saved state into `state`.

        Args:
            state: a new state.
            resume: continue from the saved state if there is one, else start from the beginning.
            force: discard any saved state.
            log: called with one-line messages for the user.

        Returns:
            The run, whose `command` is the command line that first started it.

        Raises:
            UsageError: `RunFolder.check_free` finds a file in the way, or the saved state belongs
                to another run.
            IntegrityError: the saved state is damaged.
            InputError: the saved state does not fit the model.
        """
        folder = self.folder
        if folder is None:
            return self

        def prepare() -> bool:
            folder.check_free(resume=resume, force=force)
            folder.make()
            if force:
                folder.end()
            return folder.state.exists()

        saved = self.group.run_on_first(prepare)
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
            raise UsageError(
                f"{folder.state}: belongs to another run: {'; '.join(changes)}. Use the same "
                "options, another --out, or --force to start again."
            )
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

    def end(self) -> None:
        """Remove the saved state."""
        if self.folder and self.group.is_first:
            self.folder.end()

    def keep_last_good(self, checkpoint: Checkpoint) -> str:
        """Save a checkpoint from before the loss diverged, and end the run.

        Returns:
            A sentence about the kept file; empty if nothing is saved.
        """
        folder = self.folder
        if folder is None:
            return ""
        if self.group.is_first:
            save_checkpoint(checkpoint, folder.last_good)
        self.end()
        best = checkpoint.metadata["best_epoch"]
        return f" The model of epoch {best} is kept in {folder.last_good}."

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
