"""Check the bytes of an untrusted `.onnx` file before onnxruntime reads it."""

from __future__ import annotations

from .model import check_graph

__all__ = ["check_graph"]
