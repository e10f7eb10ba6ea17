"""Helpers that make columns of images and read results."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def fixed(images: np.ndarray[Any, Any]) -> Any:
    """Convert images [N, …] to fixed-size lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(images.ravel()), images[0].size)


def matrix(table: Any, name: str) -> np.ndarray[Any, Any]:
    """Convert a column of lists without nulls to [N, K]."""
    return np.stack(table[name].to_numpy())


def in_parts(mapper: Any, table: Any, parts: int) -> Any:
    """Map a table with row numbers in this many parts, and concatenate the results."""
    n = table.num_rows
    if "row" not in table.column_names:
        table = table.append_column("row", pa.array(np.arange(n)))
    edges = np.linspace(0, n, parts + 1).astype(int).tolist()
    return pa.concat_tables(mapper(table.slice(a, b - a)) for a, b in itertools.pairwise(edges))


def read(folder: Path) -> Any:
    """Read all parts of a job, in order."""
    return pa.concat_tables([pq.read_table(p) for p in sorted(folder.glob("part-*.parquet"))])


def provenance(part: Path) -> dict[str, Any]:
    """The provenance in a part's Parquet metadata."""
    found: dict[str, Any] = json.loads(pq.read_metadata(part).metadata[b"vae_onnx"])
    return found
