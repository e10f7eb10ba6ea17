"""Every code block of every page is run, or says why not: see `pages.WAYS`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Run

from .pages import EXPORT, PYTHON, ROOT, RUN, TRAIN, WAYS, Piece, pieces
from .workplace import execute

pytestmark = pytest.mark.torch_free

PIECES = pieces()


def of(how: str) -> list[str]:
    """The commands that are run this way, each once."""
    return sorted({piece.text for piece in PIECES if piece.way and piece.way.how == how})


def test_every_block_has_a_way_to_be_run() -> None:
    lost = [f"{piece}: {piece.language}: {piece.text[:80]}" for piece in PIECES if not piece.way]
    assert not lost, f"say in tests/docs/pages.py how these are run: {lost}"
    assert len(PIECES) > 150


def test_no_way_is_out_of_date() -> None:
    used = {piece.way for piece in PIECES}
    assert not [way for way in WAYS if way not in used]
    named = [way.how for way in WAYS if way.how.startswith("tests/") and " " not in way.how]
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).is_file()]


@pytest.mark.parametrize("line", of(RUN))
def test_vae_run(run: Run, examples: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(run, examples, line, monkeypatch)


@pytest.mark.parametrize("page", sorted({p.page for p in PIECES if p.way and p.way.how == PYTHON}))
def test_python(page: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of one page, one after another, as a reader would paste them."""
    blocks = [p for p in PIECES if p.page == page and p.way and p.way.how == PYTHON]
    if any("pyarrow" in piece.text for piece in blocks):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")
    monkeypatch.chdir(examples)
    scope: dict[str, Any] = {}
    for piece in blocks:
        exec(compile(piece.text, str(piece), "exec"), scope)


torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: the extra train"
)


@torch
@pytest.mark.parametrize("line", of(TRAIN))
def test_vae_train(line: str, examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains for one epoch on twenty images; `--resume` goes on from a run of the same options."""
    import shlex

    from vae_train.cli import cli

    monkeypatch.chdir(examples)
    (toml,) = (piece.text for piece in PIECES if piece.language == "toml")
    (examples / "run.toml").write_text(toml)
    (examples / "cvae.run").mkdir()
    (examples / "cvae.run" / "config.toml").write_text(toml)
    words = shlex.split(re.sub(r"^torchrun .*-m vae_train|^vae-train", "", line))
    context = cli.make_context("vae-train", [*words])
    assert context.params["family"] in ("ae", "vae", "cvae")
    assert context.params["out"].suffix == ".pt"
    small = ["--epochs", "1", "--no-report", "--quiet", "--device", "cpu", "--batch-size", "10"]
    if "--resume" in words or "photos/" in words:
        return  # tests/train/test_resume.py; and photos/ has no sub-folders here
    if "--tensorboard" in words:
        pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    cli.main([*words, *small, "--components", "1"], standalone_mode=False)
    assert context.params["out"].is_file()


@torch
@pytest.mark.slow
@pytest.mark.parametrize("line", of(EXPORT))
def test_vae_export(
    line: str, examples: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    from vae_export.cli import cli
    from vae_runtime.studio import fetch

    if "--html" in line and not fetch.present():
        pytest.skip(f"no onnxruntime-web: run {fetch.COMMAND}")
    monkeypatch.chdir(examples)
    words = shlex.split(line)[1:]
    given = Path(words[words.index("--ckpt") + 1])
    given.write_bytes(checkpoint.read_bytes())
    cli.main(words, standalone_mode=False)
    assert (given.with_suffix("") / "manifest.json").is_file()
    for option in ("--html", "--triton", "--c"):
        if option in words:
            assert Path(words[words.index(option) + 1]).exists()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CVAE of digits, trained for an epoch."""
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

Words.

    import vae_runtime as vae
    x = 1
"""


def test_blocks_are_found() -> None:
    from .pages import _blocks, _split

    found = [
        piece
        for line, language, text in _blocks(PAGE)
        for piece in _split("x.md", line, language, text)
    ]
    assert [(p.line, p.language, p.text) for p in found] == [
        (5, "sh", "vae-run sample -n 2 -o a.png"),
        (6, "sh", "vae-run sample --seed 3"),
        (7, "sh", "mystery --now"),
        (12, "python", "import vae_runtime as vae\nx = 1"),
    ]
    assert found[2].way is None
    assert Piece("README.md", 1, "js", "x").way is None
