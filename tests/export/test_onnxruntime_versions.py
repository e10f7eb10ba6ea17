"""Run bundles in three years of onnxruntime releases, each in its own virtual environment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vae_export.writer import write_bundle

VERSIONS = {
    "1.16.3": ["onnxruntime==1.16.3", "numpy<2"],
    "1.18.1": ["onnxruntime==1.18.1", "numpy<2"],
    "1.20.1": ["onnxruntime==1.20.1"],
    "newest": ["onnxruntime"],
}
CHECK = """
import json, sys
from pathlib import Path
import numpy as np
import onnxruntime as ort
print("onnxruntime", ort.__version__)
for folder in map(Path, sys.argv[1:]):
    manifest = json.loads((folder / "manifest.json").read_text())
    golden = np.load(folder / "golden.npz")
    for graph in manifest["graphs"]:
        session = ort.InferenceSession(folder / graph["file"], providers=["CPUExecutionProvider"])
        names = [t["name"] for t in graph["outputs"]]
        inputs = {t["name"]: golden[f"{graph['role']}.in.{t['name']}"] for t in graph["inputs"]}
        session.run(names, {k: v[:0] for k, v in inputs.items()})
        for name, found in zip(names, session.run(names, inputs)):
            expected = golden[f"{graph['role']}.out.{name}"]
            if found.dtype == np.uint8:
                error, bound = np.abs(found / 255.0 - expected).max(), 0.5 / 255 + 1e-5
            else:
                error = np.abs(found - expected).max()
                bound = {"fp16": 2e-2, "int8": 2e-1}.get(graph["variant"], 1e-5)
            assert np.isfinite(found).all() and error <= bound, (graph["file"], name, error)
            print(graph["file"], name, f"{error:.1e}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_graphs_reproduce_the_golden_vectors(
    exported_of: Any, version: str, tmp_path: Path
) -> None:
    folders = []
    for name in ("ae-mlp", "vae-conv", "cvae-mlp", "cvae-conv"):
        exported = exported_of(name)
        write_bundle(exported.manifest, exported.files, tmp_path / name)
        folders.append(tmp_path / name)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *VERSIONS[version]], check=True)
    done = subprocess.run(
        [python, "-c", CHECK, *folders], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
