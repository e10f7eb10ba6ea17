"""Run the code blocks of every page as the table `pages.RULES` defines."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Run

from .pages import (
    EXPORT,
    PYTHON,
    ROOT,
    RULES,
    RUN,
    TRAIN,
    Example,
    _blocks,
    _split,
    find_examples,
)  # fmt: skip
from .workspace import execute

pytestmark = pytest.mark.torch_free

EXAMPLES = find_examples()


def commands(how: str) -> list[str]:
    """Return the distinct commands that are tested this way."""
    return sorted({e.text for e in EXAMPLES if e.rule and e.rule.how == how})


def test_every_example_matches_a_rule() -> None:
    unmatched = [f"{e}: {e.language}: {e.text[:80]}" for e in EXAMPLES if not e.rule]
    assert not unmatched, f"add a rule to tests/docs/pages.py for these: {unmatched}"
    assert len(EXAMPLES) > 150


def test_every_rule_is_used_and_names_an_existing_test() -> None:
    used = {example.rule for example in EXAMPLES}
    assert not [rule for rule in RULES if rule not in used]
    named = [rule.how for rule in RULES if rule.how.startswith("tests/") and " " not in rule.how]
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize("line", commands(RUN))
def test_vae_run(run: Run, examples: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "cifar10/" in line or ".parquet" in line:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")
    execute(run, examples, line, monkeypatch)


@pytest.mark.parametrize(
    "page", sorted({e.page for e in EXAMPLES if e.rule and e.rule.how == PYTHON})
)
def test_python(page: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of one page in order, as a reader would paste them."""
    blocks = [e for e in EXAMPLES if e.page == page and e.rule and e.rule.how == PYTHON]
    for package, extra in (("pyarrow", "arrow"), ("sklearn", "detect")):
        if any(package in block.text for block in blocks):
            pytest.importorskip(package, reason=f"{package} is not installed: the extra {extra}")
    monkeypatch.chdir(examples)
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block.text, str(block), "exec"), scope)


torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: the extra train"
)


@torch
@pytest.mark.parametrize("line", commands(TRAIN))
def test_vae_train(line: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for one epoch on twenty images."""
    from vae_train.cli import cli

    monkeypatch.chdir(examples)
    (toml,) = (example.text for example in EXAMPLES if example.language == "toml")
    (examples / "run.toml").write_text(toml)
    (examples / "cvae.run").mkdir()
    (examples / "cvae.run" / "config.toml").write_text(toml)
    words = shlex.split(re.sub(r"^torchrun .*-m vae_train|^vae-train", "", line))
    context = cli.make_context("vae-train", [*words])
    assert context.params["family"] in ("ae", "vae", "cvae")
    assert context.params["out"].suffix == ".pt"
    small = ["--epochs", "1", "--no-report", "--quiet", "--device", "cpu", "--batch-size", "10"]
    if "--resume" in words or "photos/" in words:
        return  # tests/train/test_resume.py resumes; photos/ has no subfolders for labels here
    if "--tensorboard" in words:
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    cli.main([*words, *small, "--components", "1"], standalone_mode=False)
    assert context.params["out"].is_file()


@torch
@pytest.mark.slow
@pytest.mark.parametrize("line", commands(EXPORT))
def test_vae_export(
    line: str, examples: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_export.cli import cli
    from vae_runtime.studio import fetch

    if "--html" in line and not fetch.present():
        pytest.skip(f"no onnxruntime-web: run {fetch.COMMAND}")
    monkeypatch.chdir(examples)
    words = shlex.split(line)[1:]
    named = words.index("--ckpt") + 1 if "--ckpt" in words else 0
    given = Path(words[named])
    if "--bundle" not in words:
        given.write_bytes(checkpoint.read_bytes())
    cli.main(words, standalone_mode=False)
    assert "--bundle" in words or (given.with_suffix("") / "manifest.json").is_file()
    for option in ("--html", "--triton", "--c"):
        if option in words:
            assert Path(words[words.index(option) + 1]).exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CVAE of digits, trained for one epoch."""
    from vae_train.cli import cli

    path = tmp_path_factory.mktemp("checkpoint") / "cvae.pt"
    options = "cvae --data digits --epochs 1 --backbone mlp --hidden 16 --no-report --quiet"
    cli.main([*options.split(), "--components", "1", "--out", str(path)], standalone_mode=False)
    return path


PAGE = """
# A page

```sh
vae-run sample -n 2 -o a.png     # two digits
vae-run sample --seed 3   with another seed
mystery --now
```

Text.

    import vae_runtime as vae
    x = 1
"""


def test_examples_are_found_in_a_page() -> None:
    found = [
        example
        for line, language, text in _blocks(PAGE)
        for example in _split("x.md", line, language, text)
    ]
    assert [(p.line, p.language, p.text) for p in found] == [
        (5, "sh", "vae-run sample -n 2 -o a.png"),
        (6, "sh", "vae-run sample --seed 3"),
        (7, "sh", "mystery --now"),
        (12, "python", "import vae_runtime as vae\nx = 1"),
    ]
    assert found[2].rule is None
    assert Example("README.md", 1, "js", "x").rule is None
