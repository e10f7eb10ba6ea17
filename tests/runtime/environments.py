"""Environments of their own with another package of onnxruntime, and Python run in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).parents[2] / "runtime"


def environment_with(package: str, folder: Path) -> Path:
    """Make an environment with a package and what the runtime needs; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    found = folder / "bin" / "python"
    install = [found, "-m", "pip", "install", "-q", package, "numpy", "pillow", "click"]
    if subprocess.run(install, check=False).returncode:
        pytest.skip(f"{package} cannot be installed here")
    return found


def call(
    python: Path, folder: Path, *args: str | Path, driver: Path | None = None
) -> tuple[int, str, str]:
    """Run Python as a user would, with a driver in LD_LIBRARY_PATH or none."""
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    env |= {"PYTHONPATH": str(RUNTIME), "LD_LIBRARY_PATH": str(driver or "")}
    done = subprocess.run(
        [python, *args], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr
