"""The studio's own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from vae_runtime.studio.fetch import COMMAND, HERE, present


@pytest.fixture(scope="session")
def studio_folder() -> Path:
    """The studio's sources with onnxruntime-web; tests are skipped if that is missing."""
    if not present():
        pytest.skip(f"no onnxruntime-web: run {COMMAND}")
    return HERE
