"""Train autoencoders. `train` is the Python counterpart of the `vae-train` command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_checkpoint
    from .config import TrainConfig
    from .loop import Callback, Diverged, Step, Stopped
    from .state import Epoch
    from .training import train

__all__ = [
    "train",
    "Callback",
    "Step",
    "Epoch",
    "Checkpoint",
    "load_checkpoint",
    "TrainConfig",
    "Diverged",
    "Stopped",
]

_MODULES = {
    "Checkpoint": "checkpoint",
    "load_checkpoint": "checkpoint",
    "TrainConfig": "config",
    "Callback": "loop",
    "Diverged": "loop",
    "Step": "loop",
    "Stopped": "loop",
    "Epoch": "state",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    # Import torch only when it is needed, so that `vae-train --help` works without it.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
