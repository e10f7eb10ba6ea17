"""Read image data sets without torch: MNIST, digits, IDX files, image folders, `.npz`, Parquet."""

from __future__ import annotations

from .dataset import Dataset
from .load import load_dataset, load_held_out, load_test

__all__ = ["Dataset", "load_dataset", "load_held_out", "load_test"]
