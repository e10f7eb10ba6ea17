"""The run folder beside a checkpoint: `cvae.pt` has `cvae.run/`.

config.toml    the resolved options; `vae-train --config` takes it
metrics.jsonl  one line an epoch
state.pt       while the run is not finished: where to go on
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vae_runtime.errors import FileError, InputError, UsageError
from vae_runtime.files.atomic import append_line, write_atomic

from .sealed import REFUSED, read_sealed, write_sealed
from .state import Epoch, State

FORMAT = 2
_ENDINGS = (".pt", ".pth", ".ckpt")


def bare(checkpoint: Path) -> Path:
    """Its path without `.pt`; a number behind another dot, as in `beta0.5`, belongs to the name."""
    return checkpoint.with_suffix("") if checkpoint.suffix in _ENDINGS else checkpoint


class RunFolder:
    """The files of one run. `make` it before anything is written.

    Attributes:
        path: the folder.
        state: its `state.pt`.
        metrics: its `metrics.jsonl`.
    """

    def __init__(self, path: Path, save_every: float = 30.0, config: str = "") -> None:
        """Name the folder.

        Args:
            path: of the folder.
            save_every: seconds from one save of the state to the next; 0 saves every step.
            config: the text of `config.toml`.
        """
        self.path = path
        self.config = config
        self.state = path / "state.pt"
        self.metrics = path / "metrics.jsonl"
        self._every = save_every
        self._saved = time.monotonic()

    @classmethod
    def beside(cls, out: Path, save_every: float = 30.0, config: str = "") -> RunFolder:
        """The folder of the run that writes the checkpoint `out`."""
        if not math.isfinite(save_every):
            raise UsageError(f"save_every is {save_every}, expected seconds")
        name = bare(out)
        return cls(name.with_name(f"{name.name}.run"), save_every, config)

    def make(self) -> None:
        """Create the folder where it is missing.

        Raises:
            FileError: it cannot be made.
        """
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise FileError(f"{self.path}: {reason}, expected a run folder here") from error

    def save(self, state: State, facts: dict[str, Any], *, now: bool) -> None:
        """Write the state, if it is time or has to be `now`.

        Args:
            state: whole, between two steps.
            facts: plain values that `load` gives back.
            now: whatever the time.
        """
        if now or time.monotonic() - self._saved >= self._every:
            write_sealed({"format": FORMAT, "facts": facts, "state": state.to_dict()}, self.state)
            self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The facts and the state that `save` wrote; see `restore`.

        Raises:
            NotFound: there is none.
            IntegrityError: the bytes are not those that were written.
            InputError: not a state, or of another format.
        """
        content, _ = read_sealed(self.state)
        try:
            found, facts, state = (content[key] for key in ("format", "facts", "state"))
            if found != FORMAT or not isinstance(facts, dict):
                raise ValueError(found)
        except REFUSED as error:
            raise InputError(
                f"{self.state}: not a state that this version wrote. Delete it to start again."
            ) from error
        return facts, state

    def restore(self, state: State, data: dict[str, Any]) -> None:
        """Put what `load` gave into a fresh state.

        Raises:
            InputError: it is that of another model.
        """
        try:
            state.load_dict(data)
        except REFUSED as error:
            raise InputError(
                f"{self.state}: does not fit the model. Delete it to start again."
            ) from error

    def start(self, history: list[Epoch]) -> None:
        """Write the config, and the metrics of the epochs that are done, in place of older ones.

        What a process that was killed had half written is removed.
        """
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)
        if self.config:
            write_atomic(self.path / "config.toml", self.config.encode())
        lines = "".join(json.dumps(asdict(epoch)) + "\n" for epoch in history)
        write_atomic(self.metrics, lines.encode())

    def finished(self) -> None:
        """The checkpoint is written: nothing is left to resume."""
        self.state.unlink(missing_ok=True)


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Append one record to a file of JSON lines.

    Raises:
        FileError: the file cannot be written.
    """
    append_line(path, json.dumps(record).encode())
