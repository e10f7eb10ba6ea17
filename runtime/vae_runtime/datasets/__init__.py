"""Read image data sets without torch: named sets, IDX, image folders, arrays, Parquet."""

from __future__ import annotations

from .dataset import Dataset, ReadOptions
from .load import NAMES, load_dataset, load_held_out, load_splits, log_reading, read_split

__all__ = [
    "NAMES",
    "Dataset",
    "ReadOptions",
    "load_dataset",
    "load_held_out",
    "load_splits",
    "log_reading",
    "read_split",
]
