"""The real onnxruntime-openvino: a model on another execution provider agrees with torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.runtime.environments import call, environment_with

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the wheel is tested on Linux"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with onnxruntime-openvino."""
    return environment_with("onnxruntime-openvino", tmp_path_factory.mktemp("openvino"))


def test_the_embedded_model_agrees_with_torch(python: Path, tmp_path: Path) -> None:
    code, out, err = call(
        python, tmp_path, "-m", "vae_runtime", "verify", "--device", "openvino", "--json"
    )
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["device"] == "openvino"
    assert {match["file"] for match in found["matches"]} >= {"encoder.onnx", "sampler.onnx"}


def test_another_provider_is_refused(python: Path, tmp_path: Path) -> None:
    code, out, err = call(
        python, tmp_path, "-m", "vae_runtime", "sample", "--device", "tensorrt", "-o", "x.png"
    )
    assert (code, out) == (7, "")
    assert err.startswith("error: device tensorrt: this onnxruntime ")
    assert "is built with OpenVINOExecutionProvider, CPUExecutionProvider. Install" in err
    assert err.count("\n") == 1
