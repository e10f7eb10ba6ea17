"""The fuzz targets on their seeds and on mutants of them; by coverage where atheris is there."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, reads

MUTANTS = 200


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_its_seeds(name: str) -> None:
    taken = [reads(name, raw) for raw in TARGETS[name].seeds()]
    assert len(taken) >= 2
    assert sum(taken) >= 1, "fuzzing starts from what is read"


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_or_refuses_mutants(name: str) -> None:
    chance = random.Random(0)
    seeds = list(TARGETS[name].seeds())
    taken = sum(reads(name, mutant(chance.choice(seeds), chance)) for _ in range(MUTANTS))
    print(f"\n{name}: {MUTANTS} mutants, {taken} read, the others refused")
    assert taken < MUTANTS


def mutant(raw: bytes, chance: random.Random) -> bytes:
    """Bytes changed, removed, doubled."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        at, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        way = chance.randrange(4)
        if way == 0 and data:
            data[min(at, len(data) - 1)] = chance.randrange(256)
        elif way == 1:
            data[at:at] = chance.choice((b"\0" * 4, b"\xff" * 4, b"-1", b"9" * 20, b"[" * 2000))
        elif way == 2:
            del data[at : min(end, at + 16)]
        else:
            data[at:at] = data[at : min(end, at + 64)]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_by_coverage(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz", name, "3", str(tmp_path / "corpus")],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    assert found is not None
    print(f"\n{name}: {found[1]} inputs")
    assert int(found[1]) > 100
