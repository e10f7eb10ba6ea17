"""Before onnxruntime sees a graph: what an `.onnx` file may hold, read from its bytes alone."""

from __future__ import annotations

from .model import check_graph
from .seal import check_seal, seal

__all__ = ["check_graph", "check_seal", "seal"]
