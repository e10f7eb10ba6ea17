"""Training: objective, loop, checkpoint, latent prior. `train` does what `vae-train` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_checkpoint
    from .config import TrainConfig
    from .run import train

__all__ = ["Checkpoint", "TrainConfig", "load_checkpoint", "train"]

_HOME = {
    "Checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "TrainConfig": "config",
    "train": "run",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line prints its help, or a missing extra, before torch is imported.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
