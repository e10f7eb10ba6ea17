"""The notebook of `examples/notebook` runs from top to bottom and shows what it promises."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.torch_free

PATH = Path(__file__).parents[2] / "examples" / "notebook" / "digits.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(PATH.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_it_holds_no_outputs() -> None:
    cells = json.loads(PATH.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a kernel, so that it needs nothing but the runtime."""
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for source in code_cells():
        exec(compile(source, PATH.name, "exec"), scope)
    assert scope["pixels"].shape == (1, 1, 28, 28)
    upright, upside_down = scope["scores"].negative_elbo.reshape(2, 4)
    assert (upside_down > upright).all()


@pytest.mark.slow
def test_a_kernel_shows_pictures_and_tables(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    notebook = nbformat.read(PATH, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": tmp_path}}
    ).execute()
    shown = [
        output["data"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "data" in output
    ]
    pictures = [data["image/png"] for data in shown if "image/png" in data]
    sizes = [Image.open(io.BytesIO(base64.b64decode(png))).size for png in pictures]
    assert len(sizes) == 6
    assert all(224 <= max(size) <= 1400 for size in sizes)
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert "data:image/png;base64," in tables[0], "the model shows samples"
    assert "<table>" in tables[1], "the scores show a table"
