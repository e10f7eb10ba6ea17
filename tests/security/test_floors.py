"""The lower bounds of dependencies exclude known vulnerabilities, and those versions are tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "pyproject.toml"
EXTRAS = ("cpu", "train", "serve", "arrow", "detect", "compress")
# The first release without known vulnerabilities, and the vulnerabilities before it.
SAFE = {
    "pillow": (12, 3),  # memory safety and bombs in 12.2, CVE-2026-42309 in 12.1
    "torch": (2, 10),  # CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10
    "onnx": (1, 21),  # CVE-2026-27489, CVE-2026-34445 to CVE-2026-34447
    "numpy": (1, 22),  # CVE-2021-41496
}


def version(text: str) -> tuple[int, ...]:
    """Return a version as numbers without trailing zeros, so that 3 equals 3.0.0."""
    return tuple(map(int, re.sub(r"(\.0)+$", "", text).split(".")))


def floors() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads(PROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    found = {}
    for requirement in project["dependencies"] + [r for name in EXTRAS for r in extras[name]]:
        match = re.fullmatch(r"([a-z_-]+)>=([0-9.]+)", requirement)
        assert match, f"{requirement}: has no floor"
        found[match[1]] = version(match[2])
    return found


def pins(name: str) -> dict[str, tuple[int, ...]]:
    found = re.findall(r"^([\w-]+)==([0-9.]+)$", (ROOT / name).read_text(), re.M)
    return {package: version(text) for package, text in found}


@pytest.mark.parametrize("name", SAFE)
def test_a_floor_excludes_known_vulnerabilities(name: str) -> None:
    assert floors()[name] >= SAFE[name]


def test_the_lowest_tested_versions_are_the_lowest_allowed() -> None:
    tested = pins("constraints-lowest.txt")
    named = re.findall(r"torch==(\d+\.\d+)", (ROOT / "constraints-lowest.txt").read_text())
    assert [version(text) for text in named] == [floors()["torch"]], "said to be not run"
    assert tested.pop("dask") == tested["distributed"], "one is of no use without the other"
    assert tested == {name: floor for name, floor in floors().items() if name != "torch"}


def test_the_highest_tested_versions_are_not_below_the_floor() -> None:
    newest = pins("constraints.txt")
    assert not {name for name, floor in floors().items() if newest.get(name, floor) < floor}
