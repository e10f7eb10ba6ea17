"""From a checkpoint to a verified bundle. `export_checkpoint` does what `vae-export` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .export import export_checkpoint

__all__ = ["export_checkpoint"]


def __getattr__(name: str) -> Any:
    # Lazy: the command line prints its help, or a missing extra, before torch is imported.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .export import export_checkpoint

    return export_checkpoint
