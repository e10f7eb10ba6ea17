"""The real onnxruntime-openvino: a model on another execution provider agrees with torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the wheel is tested on Linux"),
]

RUNTIME = Path(__file__).parents[2] / "runtime"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with onnxruntime-openvino."""
    folder = tmp_path_factory.mktemp("openvino")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    packages = ["onnxruntime-openvino", "numpy", "pillow", "click"]
    if subprocess.run([found, "-m", "pip", "install", "-q", *packages], check=False).returncode:
        pytest.skip("onnxruntime-openvino cannot be installed here")
    return found


def call(python: Path, *args: str) -> tuple[int, str, str]:
    env = os.environ | {"PYTHONPATH": str(RUNTIME)}
    done = subprocess.run(
        [python, "-m", "vae_runtime", *args], env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_the_embedded_model_agrees_with_torch(python: Path) -> None:
    code, out, err = call(python, "verify", "--device", "openvino", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["device"] == "openvino"
    assert {match["file"] for match in found["matches"]} >= {"encoder.onnx", "sampler.onnx"}


def test_another_provider_is_refused(python: Path) -> None:
    code, out, err = call(python, "sample", "--device", "tensorrt", "-o", "x.png")
    assert (code, out) == (7, "")
    assert err.startswith("error: device tensorrt: this onnxruntime ")
    assert "is built with OpenVINOExecutionProvider, CPUExecutionProvider. Install" in err
    assert err.count("\n") == 1
