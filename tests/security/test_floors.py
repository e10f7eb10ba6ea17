"""The oldest versions that may be installed have no published holes in what this project uses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.torch_free

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
# The first release without: what is known of the ones before.
SAFE = {
    "pillow": (12, 3),  # memory safety and bombs in 12.2, CVE-2026-42309 in 12.1
    "torch": (2, 10),  # CVE-2025-32434 before 2.6, CVE-2026-24747 before 2.10
    "onnx": (1, 21),  # CVE-2026-27489, CVE-2026-34445 to CVE-2026-34447
    "numpy": (1, 22),  # CVE-2021-41496
}


def floors() -> dict[str, tuple[int, ...]]:
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["train"]
    found = {}
    for requirement in wanted:
        match = re.fullmatch(r"([a-z_-]+)>=([0-9.]+)", requirement)
        assert match, f"{requirement}: has no floor"
        found[match[1]] = tuple(map(int, match[2].split(".")))
    return found


@pytest.mark.parametrize("name", SAFE)
def test_a_floor_leaves_out_known_holes(name: str) -> None:
    assert floors()[name] >= SAFE[name]
