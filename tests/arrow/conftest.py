"""Fixtures: a table of images sampled from a bundle, and Parquet files of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from tests.runtime.conftest import ae_path as ae_path
from tests.runtime.conftest import any_bundle as any_bundle
from tests.runtime.conftest import cvae as cvae
from tests.runtime.conftest import cvae_path as cvae_path
from tests.runtime.conftest import run as run
from tests.runtime.conftest import vae_path as vae_path

N = 60


@pytest.fixture
def table(cvae: vae.Autoencoder) -> Any:
    """Sixty digits, u8, with their labels and names."""
    import pyarrow as pa

    from .tables import fixed

    labels = np.arange(N) % 10
    images = cvae.sample(N, labels, seed=5, dtype="uint8")
    return pa.table({"name": [f"n{i}" for i in range(N)], "image": fixed(images), "label": labels})


@pytest.fixture
def parquet(table: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write a table, by default the sixty digits, in row groups of seven."""
    import pyarrow.parquet as pq

    def write(rows: Any = None, name: str = "in.parquet", group: int = 7) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table if rows is None else rows, path, row_group_size=group)
        return path

    return write
