"""What a stranger's own code raises is told as theirs, not as a bug of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.export.test_custom_module import HERE, run
from vae_runtime.errors import UsageError


def test_errors_of_a_custom_modules_code_are_not_bugs_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistakes.py").write_text(
        "def raises(): raise RuntimeError('no weights')\ndef needs(x): pass\nnumber = 3\n"
    )
    (tmp_path / "syntax.py").write_text("def:\n")
    np.savez("big.npz", images=np.zeros((4, 9, 9), np.uint8))
    for name, words in (
        ("mistakes:raises", "RuntimeError: no weights"),
        ("mistakes:needs", "TypeError: needs() missing 1 required positional argument: 'x'"),
        ("mistakes:number", "TypeError: 'int' object is not callable"),
        ("syntax:x", "SyntaxError: "),
    ):
        found = run("--model", name, "--data", "big.npz", "-o", "b").exception
        assert isinstance(found, UsageError)
        assert str(found).startswith(f"--model {name}: {words}")
    monkeypatch.syspath_prepend(HERE)
    found = run("--model", "custom_modules:upsampler", "--data", "big.npz", "-o", "b").exception
    assert isinstance(found, UsageError)
    assert str(found).startswith("encode failed on big, up to 256 images of (1, 9, 9): ")
    assert str(found).endswith("Is it what the module was trained on?")


def test_a_size_without_data_is_refused() -> None:
    assert str(run("--ckpt", "none.pt", "--size", "5x5").exception) == (
        "--size: without effect where --data is not given."
    )
