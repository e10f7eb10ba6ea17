"""Timing things that take turns, and the rows of the table that comes out."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

Work = Callable[[], object]
_TURN = 0.005  # seconds at least


@dataclass(frozen=True)
class Times:
    """Seconds of one candidate: the middle, and the quarter of the runs on either side of it."""

    median: float
    low: float
    high: float
    fastest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Of all runs of a candidate."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, min(seconds))


@dataclass(frozen=True)
class Row:
    """One line of the table: how ours compares with one other candidate.

    Attributes:
        work: what was done.
        other: what ours is compared with.
        ratio: of the medians; `better` says which way, and with what as the one.
        better: `faster` (other / ours, more is better) or `cost` (ours / other, less is better).
        reach: the ratio wanted; None where there is nothing to reach.
        ours, against: in `unit`, each with its spread.
        unit: of the numbers: microseconds an item, seconds, megabytes.
        note: what else a reader should know.
        part: of the benchmark, that it was measured in.
    """

    work: str
    other: str
    ratio: float
    better: str
    reach: float | None
    ours: Times | float
    against: Times | float
    unit: str = "s"
    note: str = ""
    part: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the reach was met."""
        if self.reach is None:
            return None
        return self.ratio >= self.reach if self.better == "faster" else self.ratio <= self.reach


@dataclass
class Table:
    """Rows in the order in which they were measured, printed as they come."""

    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    part: str = ""

    def begin(self, part: str) -> None:
        """What is added from now on is of this part; rows that it had before go."""
        self.part = part
        self.rows = [row for row in self.rows if row.part != part]

    def add(self, row: Row) -> None:
        """Keep a row and print it."""
        self.rows.append(replace(row, part=self.part))
        word = {None: "", True: "met", False: "MISSED"}[row.met]
        print(f"{row.work:<44} {row.other:<26} {row.ratio:7.2f} {row.better:<7} {word}", flush=True)

    def compare(
        self,
        work: str,
        candidates: Mapping[str, Work],
        reaches: Mapping[str, tuple[str, float | None]],
        *,
        items: int = 1,
        rounds: int = 50,
        note: str = "",
    ) -> dict[str, Times]:
        """Time candidates in turns, and add a row for each that ours is compared with.

        Args:
            work: what is done.
            candidates: by name; the first is ours.
            reaches: for each other candidate, `faster` or `cost` and the ratio wanted.
            items: in one call; times are given in microseconds an item.
            rounds: how often each has its turn.
            note: for the reader.
        """
        found = in_turns(candidates, 3 if self.quick else rounds)
        times = {name: _scaled(t, 1e6 / items) for name, t in found.items()}
        ours = times[next(iter(candidates))]
        for other, (better, reach) in reaches.items():
            if other not in times:
                continue
            pair = (times[other].median, ours.median)
            ratio = pair[0] / pair[1] if better == "faster" else pair[1] / pair[0]
            self.add(Row(work, other, ratio, better, reach, ours, times[other], "µs", note))
        return times


def in_turns(candidates: Mapping[str, Work], rounds: int) -> dict[str, Times]:
    """Call each in its turn, round after round, so that a busy machine hits all alike.

    Short work is repeated within its turn: else each would pay for the caches that the others took.
    The order is drawn anew for each round: whoever follows one that frees much memory waits for
    pages, and would be the same one each time.
    """
    order, chance = list(candidates), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    times = {name: _calls(work) for name, work in candidates.items()}
    for _ in range(max(rounds, 2)):
        chance.shuffle(order)
        for name in order:
            work = candidates[name]
            start = time.perf_counter()
            for _ in range(times[name]):
                work()
            seconds[name].append((time.perf_counter() - start) / times[name])
    return {name: Times.of(found) for name, found in seconds.items()}


def rounded(value: float) -> str:
    """Three digits, and as many zeros as it takes: 4.27, 42,700."""
    return f"{float(f'{value:.3g}'):,.15g}"


def _calls(work: Work) -> int:
    """How many calls fill a turn."""
    return max(1, round(_TURN / once(work)))


def once(work: Work) -> float:
    """Seconds of one call; one before it fills caches."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _scaled(times: Times, factor: float) -> Times:
    return Times(
        *(value * factor for value in (times.median, times.low, times.high, times.fastest))
    )
