"""Check what an untrusted `.onnx` file holds, from its bytes, before onnxruntime reads it."""

from __future__ import annotations

from .model import check_graph

__all__ = ["check_graph"]
