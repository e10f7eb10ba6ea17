"""The program for a machine with CUDA, which its dry run proves on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.performance import cuda

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.compile
]


def test_a_dry_run_writes_every_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cuda", "--dry-run", "--out", str(tmp_path)])
    cuda.main()
    text = (tmp_path / "cuda-results.md").read_text()
    assert "on the CPU: a dry run" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert sum(row[-1] == "yes |" for row in rows) == 6
    assert [row[0] for row in rows if row[0] in ("| decode", "| encode")] == [
        "| decode", "| encode", "| decode", "| encode",
    ]  # fmt: skip
    assert [row[0] for row in rows if len(row) == 3][-2:] == ["| default", "| best"]
