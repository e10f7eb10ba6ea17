"""Every example in a `--help` runs, and the pages list all commands, options and public names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import vae_runtime as vae
from tests.docs.workspace import examples as examples
from tests.docs.workspace import execute
from vae_runtime.cli import COMMANDS, EPILOG

from .conftest import Run

pytestmark = pytest.mark.torch_free

DOCS = Path(__file__).parents[2] / "docs"


def helped() -> list[str]:
    pages = [EPILOG]
    pages += [importlib.import_module(f"vae_runtime.cli.{name}").EPILOG for name in COMMANDS]
    return [
        line.strip()
        for page in pages
        for line in page.splitlines()
        if line.startswith("  vae-run ")
    ]


@pytest.mark.parametrize("line", sorted(set(helped())))
def test_example(run: Run, examples: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(run, examples, line, monkeypatch)


def test_the_page_shows_every_command() -> None:
    shown = re.findall(r"^\$ vae-run (\w+)", (DOCS / "commands.md").read_text(), re.M)
    assert set(shown) >= set(COMMANDS)


def test_every_option_is_on_the_page() -> None:
    text = (DOCS / "commands.md").read_text()
    shared = {"--bundle", "--variant", "--device", "--threads", "--tf32", "--label", "--out",
              "--format", "--show", "--columns", "--scale", "--json"}  # fmt: skip
    assert all(f"`{name}" in text for name in shared)


def test_every_public_name_is_on_the_page() -> None:
    named = re.findall(r"`(\w+)`", (DOCS / "api.md").read_text())
    assert set(vae.__all__) <= set(named)
