"""From a checkpoint, or a module of your own, to a verified bundle.

`export_checkpoint` and `export` do what `vae-export` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .custom_module import export
    from .pipeline import export_checkpoint

__all__ = ["export", "export_checkpoint"]

_HOME = {"export": "custom_module", "export_checkpoint": "pipeline"}


def __getattr__(name: str) -> Any:
    # Lazy: the command line prints its help, or a missing extra, before torch is imported.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
