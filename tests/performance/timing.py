"""Time candidates in turns and collect the results as rows of a table."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

Work = Callable[[], object]
_TURN = 0.005  # minimum seconds per turn


@dataclass(frozen=True)
class Times:
    """Median, quartiles and minimum of one candidate's runs, in seconds unless scaled."""

    median: float
    low: float
    high: float
    fastest: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """Summarise the seconds of all runs."""
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, min(seconds))


@dataclass(frozen=True)
class Row:
    """One line of the table, which compares ours with one other candidate.

    Attributes:
        work: the work that was measured.
        other: the candidate that ours is compared with.
        ratio: the ratio of the medians, in the direction of `better`.
        better: `faster` (other / ours, higher is better) or `cost` (ours / other, lower is better).
        target: the ratio to reach, or None.
        ours, against: the measurements in `unit`, with their spread if they are times.
        unit: microseconds per item, seconds or megabytes.
        comment: further information for the reader.
        part: the part of the benchmark that the row belongs to.
    """

    work: str
    other: str
    ratio: float
    better: str
    target: float | None
    ours: Times | float
    against: Times | float
    unit: str = "s"
    comment: str = ""
    part: str = ""

    @classmethod
    def of(
        cls,
        work: str,
        other: str,
        better: str,
        target: float | None,
        ours: Times | float,
        against: Times | float,
        unit: str = "s",
        comment: str = "",
    ) -> Row:
        """Compute the ratio from the two measurements."""
        one, two = (m.median if isinstance(m, Times) else m for m in (ours, against))
        ratio = two / one if better == "faster" else one / two
        return cls(work, other, ratio, better, target, ours, against, unit, comment)

    @property
    def met(self) -> bool | None:
        """Return whether the target was met; None without a target."""
        if self.target is None:
            return None
        return self.ratio >= self.target if self.better == "faster" else self.ratio <= self.target


@dataclass
class Table:
    """The measured rows, in order."""

    quick: bool = False
    rows: list[Row] = field(default_factory=list)
    part: str = ""

    def begin(self, part: str) -> None:
        """Start a part: discard its earlier rows, and assign the following rows to it."""
        self.part = part
        self.rows = [row for row in self.rows if row.part != part]

    def add(self, row: Row) -> None:
        """Append a row to the current part and print it."""
        self.rows.append(replace(row, part=self.part))
        met = {None: "", True: "met", False: "MISSED"}[row.met]
        print(f"{row.work:<44} {row.other:<26} {row.ratio:7.2f} {row.better:<7} {met}", flush=True)

    def compare(
        self,
        work: str,
        candidates: Mapping[str, Work],
        targets: Mapping[str, tuple[str, float | None]],
        *,
        items: int = 1,
        rounds: int = 50,
        comment: str = "",
    ) -> None:
        """Time candidates in turns and add a row for each baseline.

        Args:
            work: the work that is measured.
            candidates: the functions to time, by name; the first is ours.
            targets: for each baseline, `faster` or `cost` and the ratio to reach.
            items: the number of items per call; times are in microseconds per item.
            rounds: the number of turns of each candidate.
            comment: further information for the reader.
        """
        found = in_turns(candidates, 3 if self.quick else rounds)
        times = {name: _scaled(t, 1e6 / items) for name, t in found.items()}
        ours = times[next(iter(candidates))]
        for other, (better, target) in targets.items():
            if other in times:
                self.add(Row.of(work, other, better, target, ours, times[other], "µs", comment))


def in_turns(candidates: Mapping[str, Work], rounds: int) -> dict[str, Times]:
    """Run the candidates in turns, so that other load on the machine affects all of them.

    Short work is repeated within its turn; otherwise each candidate would find the caches filled by
    another. The order within a round is random: a candidate waits for memory pages if the one
    before it has just freed many, and this should not always be the same one.
    """
    order, chance = list(candidates), random.Random(0)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    calls = {name: max(1, round(_TURN / once(work))) for name, work in candidates.items()}
    for _ in range(max(rounds, 2)):
        chance.shuffle(order)
        for name in order:
            work = candidates[name]
            start = time.perf_counter()
            for _ in range(calls[name]):
                work()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return {name: Times.of(found) for name, found in seconds.items()}


def rounded(value: float) -> str:
    """Format with three significant digits: 4.27, 42,700."""
    return f"{float(f'{value:.3g}'):,.15g}"


def once(work: Work) -> float:
    """Return the seconds of one call, after a first call that fills the caches."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _scaled(times: Times, factor: float) -> Times:
    return Times(
        *(value * factor for value in (times.median, times.low, times.high, times.fastest))
    )
