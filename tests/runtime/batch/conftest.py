"""A table of a bundle's own images, and Parquet files of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

N = 60


@pytest.fixture
def table(cvae: vae.Autoencoder) -> Any:
    """Sixty digits, u8, with their labels and a name."""
    import pyarrow as pa

    from .tables import fixed

    labels = np.arange(N) % 10
    images = cvae.sample(N, labels, seed=5, dtype="uint8")
    return pa.table({"name": [f"n{i}" for i in range(N)], "image": fixed(images), "label": labels})


@pytest.fixture
def parquet(table: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a table, by default that of sixty digits, in row groups of seven."""
    import pyarrow.parquet as pq

    def write(rows: Any = None, name: str = "in.parquet", group: int = 7) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table if rows is None else rows, path, row_group_size=group)
        return path

    return write
