"""The mutation tool finds checks and reports those that no test covers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.security.mutate.checks import mutants
from tests.security.mutate.modules import EQUIVALENT, ROOT, files_of, names, source_of

SOURCE = """
def read(raw, low, high):
    check(raw)
    print_status(raw)
    fits = bool(raw) and all(0 <= n < 9 or n == 99 for n in raw)
    name = raw or (low and high)
    if not fits or not low <= len(raw) <= high:
        raise ValueError(raw or name)
    if name or raw:
        return (name or raw).lower()
    for n in raw:
        if n < low:
            yield f"{n} is low"
        yield n
    return {"first": raw[0] == 1, "name": name}
"""
CHECKS = [
    (3, "check(raw)"),
    (5, "bool(raw)"),
    (5, "all((0 <= n < 9 or n == 99 for n in raw))"),
    (5, "0 <= n < 9"),
    (5, "n == 99"),
    (5, "0 <= n"),
    (5, "n < 9"),
    (7, "not fits"),
    (7, "not low <= len(raw) <= high"),
    (7, "low <= len(raw)"),
    (7, "len(raw) <= high"),
    (8, "raise ValueError(raw or name)"),
    (13, "yield f'{n} is low'"),
    (15, "raw[0] == 1"),
]


def test_each_check_is_disabled_alone() -> None:
    found = list(mutants(SOURCE))
    assert sorted((m.lines.start, m.what) for m in found) == sorted(CHECKS)
    before = ast.unparse(ast.parse(SOURCE)).splitlines()
    for mutant in found:
        after = ast.unparse(mutant.tree()).splitlines()
        assert len(after) == len(before)
        assert sum(a != b for a, b in zip(after, before, strict=True)) == 1, mutant.what


def test_the_replacement_of_a_check() -> None:
    texts = {m.what: ast.unparse(m.tree()) for m in mutants(SOURCE)}
    assert "    pass\n    print_status(raw)" in texts["check(raw)"]
    assert "if False or not low <= len(raw) <= high" in texts["not fits"]
    assert "if not fits or not len(raw) <= high" in texts["low <= len(raw)"]
    assert "all((True and n" not in texts["0 <= n < 9"]
    assert "all((False or n == 99" in texts["0 <= n < 9"]
    assert "fits = True and all(" in texts["bool(raw)"]


@pytest.mark.parametrize("name", names())
def test_the_list_of_modules_is_up_to_date(name: str) -> None:
    checks = [mutant.what for mutant in mutants(source_of(name).read_text())]
    assert checks
    for test in files_of(name):
        assert (ROOT / test).is_file()
    for part, reason in EQUIVALENT.get(name, {}).items():
        assert any(what.startswith(part) for what in checks), part
        assert reason


FAKE = """
def half(n):
    if n < 0 or n % 2:
        raise ValueError(n)
    return n // 2
"""
FAKE_TESTS = """
import pytest
from vae_fake import half

def test_first():
    assert half(4) == 2
    with pytest.raises(ValueError):
        half(-2)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_check_that_no_test_needs_is_found(tmp_path: Path) -> None:
    """A module with two checks whose only test covers the first."""
    (tmp_path / "vae_fake.py").write_text(FAKE)
    (tmp_path / "test_fake.py").write_text(FAKE_TESTS)
    script = """
import sys
from pathlib import Path
from tests.security.mutate.checks import mutants
from tests.security.mutate.runs import with_tests
folder = Path(sys.argv[1])
path = folder / "vae_fake.py"
def work(tests):
    for mutant in mutants(path.read_text()):
        print(mutant.what, tests.run(path, mutant), sep=": ")
sys.path.insert(0, str(folder))
with_tests([str(folder / "test_fake.py")], [path], work)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stdout.splitlines() if ": " in line] == [
        "n < 0: killed", "n % 2: survived", "raise ValueError(n): killed",
    ], done.stderr  # fmt: skip
