"""The parity check passes right graphs and catches damaged ones, on a part of the mutation run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.parity.damage import KINDS
from tests.parity.mutations import Verdict, run
from tests.parity.subjects import NAMES

RESULTS = Path(__file__).parents[2] / "docs" / "parity-results.json"
SUBSET = {
    "AE mlp": 12,
    "bilinear upsampling": 20,
    "multi-head attention": 25,
    "transposed convolutions, batch norm": 15,
}


@pytest.mark.parametrize("name", SUBSET)
def test_a_right_graph_passes_and_damaged_ones_are_caught(name: str) -> None:
    right, *damaged = run([name], seed=7)
    assert right.outcome == "right"
    assert 0 < right.typical < 3
    outcomes = Counter(v.outcome for v in damaged)
    assert outcomes["missed"] == 0, [v for v in damaged if v.outcome == "missed"]
    assert outcomes["caught"] >= SUBSET[name]


def test_damage_below_rounding_is_called_equivalent_only_if_it_passes() -> None:
    facts = ("x", 0, "one weight × 1.001", "w")
    assert Verdict(*facts, "passed", 1, 1, 0.1).outcome == "equivalent"
    assert Verdict(*facts, "passed", 1, 1, 1.1).outcome == "missed"
    assert Verdict(*facts, "typical error", 1, 3).outcome == "caught"


def test_the_committed_run_holds_every_graph_and_kind_and_missed_none() -> None:
    verdicts = json.loads(RESULTS.read_text())["verdicts"]
    assert {v["graph"] for v in verdicts} == set(NAMES)
    assert {v["kind"] for v in verdicts if v["kind"]} == set(KINDS)
    outcomes = Counter(v["outcome"] for v in verdicts)
    assert outcomes["refused"] == outcomes["missed"] == 0
    assert outcomes["right"] == len(NAMES) * len({v["seed"] for v in verdicts})
