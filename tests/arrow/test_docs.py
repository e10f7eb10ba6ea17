"""The Python code of docs/scale.md runs unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import unpack

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

pytestmark = pytest.mark.torch_free

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def test_the_page_on_scale(
    vae_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    unpack(vae_path, tmp_path / "cvae")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    exec(compile(block, "docs/scale.md", "exec"), {})
    assert capsys.readouterr().out == "[None, 'image: 63 numbers, expected 64']\n"
