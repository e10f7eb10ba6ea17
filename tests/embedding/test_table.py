"""The command that prints the table of hosts, and the page that contains it."""

from __future__ import annotations

import json
import re
import sys

import pytest

from tests.embedding import __main__ as command
from vae_runtime.verification import TOLERANCE

from .host import EXAMPLES, ROOT, Missing, Row, Vectors

PAGE = (ROOT / "docs" / "embedding.md").read_text()


def test_the_page_has_a_row_for_every_host_within_the_tolerance() -> None:
    rows = [
        line.split("|") for line in PAGE.splitlines() if re.search(r"\| \d\.\de-\d\d \|$", line)
    ]
    assert len(rows) == len(command.HOSTS)
    assert all(float(row[6]) <= TOLERANCE for row in rows)
    assert all(float(row[3]) > 0 and float(row[4]) > 0 and float(row[5]) > 0 for row in rows)


NOTEBOOK = "notebook"  # described in docs/training.md
BATCH_EXAMPLES = ("processes", "ray_data", "spark")  # described in docs/scale.md


def test_every_example_has_a_page_and_a_row() -> None:
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    scale = (ROOT / "docs" / "scale.md").read_text()
    assert all(f"examples/{name}" in scale for name in BATCH_EXAMPLES)
    folders = [name for name in folders if name not in (*BATCH_EXAMPLES, NOTEBOOK)]
    assert folders == ["bare_onnxruntime", "c", "c_api", "mlserver", "pillow_script",
                       "triton", "web_app"]  # fmt: skip
    for name in folders:
        assert (EXAMPLES / name / "README.md").read_text().startswith("# ")
        assert f"`examples/{name}`" in PAGE


def test_the_json_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(ROOT / "tests" / "data" / "cvae_mlp.zip")
    args = ["embedding", "--json", "--only", "onnxruntime", "--bundle", bundle]
    monkeypatch.setattr(sys, "argv", args)
    command.main()
    found = json.loads(capsys.readouterr().out)
    (host,) = found["hosts"]
    assert host["ok"]
    assert host["max_error"] <= host["tolerance"] == TOLERANCE
    assert host["ms"] > 0
    assert found["missing"] == {}


def test_missing_hosts_are_listed_and_wrong_pixels_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def off(vectors: Vectors) -> Row:
        return Row("a host", "examples/x", 2_000_000, 0.5, 0.25, vectors.error(vectors.image + 0.5))

    def missing(vectors: Vectors) -> Row:
        raise Missing("its tool is not installed")

    monkeypatch.setattr(command, "HOSTS", {"off": off, "gone": missing})
    monkeypatch.setattr(sys, "argv", ["embedding"])
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| a host | `examples/x` | 2.0 | 0.500 | 0.25 | 5.0e-01 |"
    assert lines[-1] == "skipped: gone: its tool is not installed"
