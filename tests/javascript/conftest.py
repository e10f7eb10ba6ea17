"""Node for the tests of the JavaScript package."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "runtime" / "javascript"
Engine = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def node() -> str:
    """Node with the package's dependencies; tests are skipped if one is missing."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("no Node.js")
    if not (PACKAGE / "node_modules").is_dir():
        pytest.skip("no onnxruntime-web: run npm ci --prefix runtime/javascript")
    return found


@pytest.fixture(scope="session")
def engine(node: str) -> Engine:
    """A function that runs jobs with the package, in one Node process, and in order."""

    def run(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [node, HERE / "engine.mjs"], input=json.dumps(jobs), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return run
