"""Node for the tests of the JavaScript package."""

from __future__ import annotations

import fcntl
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


def npm_pack(folder: Path) -> Path:
    """Pack what `npm publish` would send; one process at a time, because packing builds it."""
    with (PACKAGE / "node_modules" / ".packing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Said twice: some configurations of npm run no scripts when packing.
        for words in (["run", "build"], ["pack", "--pack-destination", folder]):
            command = ["npm", *words]
            done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.tgz")
    return found


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
