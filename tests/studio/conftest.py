"""Node for the engine's tests, and the studio's own files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vae_runtime.studio.fetch import COMMAND, HERE, present

DRIVER = Path(__file__).parent / "engine.mjs"
Engine = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def studio_folder() -> Path:
    """The studio's sources with onnxruntime-web; tests are skipped if that is missing."""
    if not present():
        pytest.skip(f"no onnxruntime-web: run {COMMAND}")
    return HERE


@pytest.fixture(scope="session")
def engine(studio_folder: Path) -> Engine:
    """A function that runs jobs in the JavaScript engine, in one Node process, and in order."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")

    def run(*jobs: dict[str, Any]) -> list[dict[str, Any]]:
        done = subprocess.run(
            [node, DRIVER, studio_folder], input=json.dumps(jobs), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    return run
