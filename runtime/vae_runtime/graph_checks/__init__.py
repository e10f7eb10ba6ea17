"""Check the bytes of an untrusted `.onnx` file before onnxruntime reads it."""

from __future__ import annotations

from .check import check_graph
from .model import GraphContents

__all__ = ["GraphContents", "check_graph"]
