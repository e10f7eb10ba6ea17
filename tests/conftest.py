"""Fixtures for the whole suite; nothing here imports torch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# onnxruntime reads this at import; some tests import it before the runtime sets it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Handle Ctrl-C even if a shell started the suite with `&`, which makes processes ignore it.

    Programs that tests start and interrupt would inherit that setting.
    """
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist_or_none() -> Path | None:
    """The folder with MNIST's four `.gz` files, or None."""
    folder = Path(os.environ.get("VAE_TEST_MNIST") or ROOT / "../shared/data/mnist")
    return folder if (folder / "t10k-images-idx3-ubyte.gz").exists() else None


@pytest.fixture(scope="session")
def mnist_folder(mnist_or_none: Path | None) -> Path:
    """The folder with MNIST's four `.gz` files; the test is skipped if there is none."""
    if mnist_or_none is None:
        pytest.skip("no MNIST: name its folder in VAE_TEST_MNIST")
    return mnist_or_none
