"""Export a checkpoint, or a custom module, to a verified bundle of ONNX graphs.

`export_checkpoint` and `export` are the Python counterparts of the command `vae-export`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline import export, export_checkpoint

__all__ = ["export", "export_checkpoint"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that the command line can print its help, or name a missing extra,
    # without torch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".pipeline", __name__), name)
