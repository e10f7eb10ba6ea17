"""The examples of `vae-train --help` are valid, and the documentation lists every option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from vae_train.cli import EPILOG, cli

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [(DOCS / name).read_text() for name in ("training.md", "commands.md")]
LINES = re.findall(r"^ *(?:torchrun .*-m vae_train|vae-train) (.+)$", EPILOG, re.M)


@pytest.mark.parametrize("line", sorted(set(LINES)))
def test_each_example_of_the_help_is_accepted(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGES[0], re.DOTALL)
    (tmp_path / "run.toml").write_text(toml)
    (tmp_path / "cvae.run").mkdir()
    (tmp_path / "cvae.run" / "config.toml").write_text(toml)
    context = cli.make_context("vae-train", shlex.split(line))
    assert context.params["family"] in ("ae", "vae", "cvae")
    assert context.params["out"].suffix == ".pt"


def test_the_help_has_examples() -> None:
    assert len(set(LINES)) >= 6


def test_every_option_is_documented() -> None:
    text = PAGES[1][PAGES[1].index("## vae-train") :]
    options = {option.opts[0] for option in cli.params if option.opts[0].startswith("--")}
    assert not {name for name in options - {"--version"} if f"`{name}`" not in text}
