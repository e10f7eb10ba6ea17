"""Run the fuzz targets on their seeds and on mutants, and with atheris if it is installed."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, accepts

MUTANTS = 200


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_one_of_its_seeds(name: str) -> None:
    accepted = [accepts(name, raw) for raw in TARGETS[name].seeds()]
    assert len(accepted) >= 2
    assert any(accepted), "fuzzing must start from valid input"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_accepts_or_refuses_every_mutant(name: str) -> None:
    rng = random.Random(0)
    seeds = list(TARGETS[name].seeds())
    accepted = sum(accepts(name, mutant(rng.choice(seeds), rng)) for _ in range(MUTANTS))
    print(f"\n{name}: {MUTANTS} mutants, {accepted} accepted, the others refused")
    assert accepted < MUTANTS


def mutant(raw: bytes, rng: random.Random) -> bytes:
    """Change, insert, delete or repeat bytes at random places."""
    data = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        operation = rng.randrange(4)
        if operation == 0 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif operation == 1:
            data[at:at] = rng.choice((b"\0" * 4, b"\xff" * 4, b"-1", b"9" * 20, b"[" * 2000))
        elif operation == 2:
            del data[at : min(end, at + 16)]
        else:
            data[at:at] = data[at : min(end, at + 64)]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_coverage_guided_fuzzing_finds_no_crash(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz", name, "3", str(tmp_path / "corpus")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert found is not None
    print(f"\n{name}: {found[1]} inputs")
    assert int(found[1]) > 100
