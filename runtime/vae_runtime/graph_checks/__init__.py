"""What an untrusted `.onnx` file may hold, read from its bytes before onnxruntime sees them."""

from __future__ import annotations

from .model import check_graph

__all__ = ["check_graph"]
