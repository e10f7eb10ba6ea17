"""Train the models that are measured, each once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from vae_runtime.datasets import Dataset
from vae_train import Checkpoint, load_checkpoint, train


def trained(
    family: Literal["ae", "vae", "cvae"], data: Dataset, path: Path, seed: int, **options: Any
) -> Checkpoint:
    """Train, or go on training, with default options but for these, unless `path` exists."""
    if path.exists():
        return load_checkpoint(path)
    return train(family, data, path, seed=seed, no_report=True, resume=True, **options)
