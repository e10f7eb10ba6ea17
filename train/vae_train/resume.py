"""Going on where a run was stopped: with the same data, model and recipe, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from vae_runtime.errors import UsageError

from .folder import RunFolder, write_record
from .ranks import Ranks
from .state import Epoch, State


@dataclass(frozen=True)
class Run:
    """One run on its way: who it is, and what is kept of it meanwhile.

    Attributes:
        same: the facts that must be the same to go on: model, recipe, data, prior, processes.
        threads: of torch; another number rounds differently.
        command: as it was first typed.
        folder: where state and metrics are kept; None keeps nothing.
        ranks: the processes; only the first writes.
    """

    same: dict[str, Any]
    threads: int
    command: str
    folder: RunFolder | None
    ranks: Ranks

    def begin(self, state: State, *, resume: bool, notice: Callable[[str], None]) -> Run:
        """Make the run folder ready, and put a saved state into the fresh `state` if asked to.

        Args:
            state: fresh.
            resume: go on with the state that is there; begin if there is none.
            notice: told in one line what the user should know.

        Returns:
            The run, with the command of its first start.

        Raises:
            UsageError: the saved state is of another run, or nobody asked to go on with it.
            IntegrityError, InputError: the saved state is damaged.
        """
        folder, first = self.folder, self.ranks.rank == 0
        if folder is None:
            return self

        def look() -> bool:
            folder.make()
            return folder.state.exists()

        there = self.ranks.first(look)
        if there and not resume:
            raise UsageError(
                f"{folder.state}: a run that is not finished. Add --resume to go on with it, or "
                "delete this file to start again."
            )
        if resume and not there:
            notice(f"{folder.path}: nothing to resume, starting at the beginning")
        run = self._go_on(folder, state, notice) if there else self
        if first:
            folder.start(state.history)
        return run

    def _go_on(self, folder: RunFolder, state: State, notice: Callable[[str], None]) -> Run:
        facts, saved = self.ranks.first(folder.load)
        found = differences(facts.get("same"), self.same)
        if found:
            raise UsageError(f"{folder.state}: of another run: {'; '.join(found)}")
        folder.restore(state, saved)
        if facts.get("threads") != self.threads:
            notice(
                f"resuming with {self.threads} threads what ran with {facts.get('threads')}: sums "
                "are rounded in another order, so the result will not be the same bit for bit"
            )
        notice(f"resuming at epoch {len(state.history) + 1}, behind {state.step} steps")
        return replace(self, command=str(facts.get("command", "")))

    def save(self, state: State, last: bool) -> None:
        """Keep the state, if it is time or the `last` chance."""
        if self.folder and self.ranks.rank == 0:
            facts = {"same": self.same, "threads": self.threads, "command": self.command}
            self.folder.save(state, facts, now=last)

    def record(self, epoch: Epoch) -> None:
        """Keep the metrics of a finished epoch."""
        if self.folder and self.ranks.rank == 0:
            write_record(self.folder.metrics, asdict(epoch))


def differences(saved: Any, now: Any, name: str = "") -> list[str]:
    """Each field that differs, in words, by its dotted name."""
    if isinstance(saved, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted(saved.keys() | now.keys())
            for line in differences(saved.get(key), now.get(key), f"{name}.{key}".strip("."))
        ]
    return [] if saved == now else [f"{name} was {saved!r}, is {now!r}"]
