"""The arithmetic of the benchmark: turns, ratios, targets, and the table it writes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from tests.performance.results import read, table_lines, write
from tests.performance.timing import Row, Table, Times, in_turns


def test_candidates_take_turns() -> None:
    calls: list[str] = []

    def slow(name: str) -> None:
        calls.append(name)
        time.sleep(0.01)

    times = in_turns({"a": lambda: slow("a"), "b": lambda: slow("b")}, 8)
    assert calls[:4] == ["a", "a", "b", "b"]  # twice each before the clock starts
    rounds = [calls[i : i + 2] for i in range(4, 20, 2)]
    assert len(calls) == 20
    assert {tuple(r) for r in rounds} == {("a", "b"), ("b", "a")}  # in random order
    assert all(0 <= t.fastest <= t.low <= t.median <= t.high for t in times.values())


@pytest.mark.parametrize(
    ("better", "ratio", "target", "met"),
    [
        ("faster", 2.5, 2.5, True),
        ("faster", 2.4, 2.5, False),
        ("cost", 1.25, 1.25, True),
        ("cost", 1.3, 1.25, False),
        ("cost", 9.0, None, None),
    ],
)
def test_a_row_meets_its_target_or_not(
    better: str, ratio: float, target: float | None, met: bool | None
) -> None:
    assert Row("w", "o", ratio, better, target, 1.0, 1.0).met is met


def test_ratios_compare_the_medians_and_the_first_candidate_is_ours() -> None:
    table = Table()

    def slow() -> None:
        sum(range(100_000))

    targets: dict[str, tuple[str, float | None]] = {"slow": ("faster", 2.0), "absent": ("cost", 1)}
    table.compare("work", {"ours": lambda: None, "slow": slow}, targets, rounds=5)
    (row,) = table.rows
    assert isinstance(row.ours, Times)
    assert isinstance(row.against, Times)
    assert row.ratio == row.against.median / row.ours.median > 2
    assert row.met


def test_a_missed_target_is_marked(tmp_path: Path) -> None:
    rows = [
        Row("decode", "torch", 2.0, "faster", 2.5, Times(4, 3, 5, 3), Times(8, 7, 9, 7), "µs"),
        Row("growth: latents", "n", 1.0, "cost", 1.1, 2.0, 1.0, "s", "1: 5 ms, 1,000: 6,000 ms"),
    ]
    first, second = table_lines(rows)[2:]
    assert (
        first == "| decode | torch | 4 µs (3–5) | 8 µs (7–9) | 2.00 faster | ≥ 2.5 | **missed** |"
    )
    assert second.endswith("| 1: 5 ms, 1,000: 6,000 ms |  | slope 1.00 | ≤ 1.1 | met |")
    write(Table(rows=rows), tmp_path)
    data = json.loads((tmp_path / "performance.json").read_text())
    assert [row["met"] for row in data["rows"]] == [False, True]
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {"performance.png", "growth.png"}


def test_measuring_a_part_again_replaces_its_rows(tmp_path: Path) -> None:
    table = Table()
    for part, ratio in (("decode", 1.0), ("disk", 2.0)):
        table.begin(part)
        table.add(Row("w", "o", ratio, "cost", 1.1, Times(4, 3, 5, 3), 1.0))
    write(table, tmp_path / "new")
    again = Table(rows=read(tmp_path / "new"))
    assert again.rows == table.rows
    again.begin("decode")
    again.add(Row("w", "o", 3.0, "cost", 1.1, 1.0, 1.0))
    assert [(row.part, row.ratio) for row in again.rows] == [("disk", 2.0), ("decode", 3.0)]
