"""Hosts in Python: the runtime with a bundle, with a lone graph, and onnxruntime without it."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

import vae_runtime as vae

from .host import EXAMPLES, ROOT, Row, Vectors, folder_size, start_time, time_calls

_OURS = ROOT / "runtime" / "vae_runtime"
_SHEET = EXAMPLES / "pillow_script" / "sheet.py"
_DIGIT = EXAMPLES / "bare_onnxruntime" / "digit.py"


def installed(*names: str) -> int:
    """Bytes of installed packages, without their bytecode."""
    total = 0
    for name in names:
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.suffix != ".pyc" and path.is_file():
                total += path.stat().st_size
    return total


def bundle(vectors: Vectors) -> Row:
    """`vae.load` on the whole bundle."""
    with vae.load(vectors.folder, device="cpu") as model:
        error = vectors.error(_decode_all(vectors, model.decode))
        label = 0 if model.spec.classes else None
        ms = time_calls(lambda: model.decode(vectors.z[0], label))
    out = str(vectors.work / "sheet.png")
    start = start_time([sys.executable, _SHEET, "--bundle", vectors.folder, "-n", "1", out])
    size = installed("numpy", "onnxruntime", "pillow", "click") + folder_size(vectors.folder)
    return Row("Python, whole bundle", "examples/pillow_script", size + _own(), start, ms, error)


def lone_graph(vectors: Vectors) -> Row:
    """`vae.Decoder` on one copied file."""
    copy = vectors.work / "copied.onnx"
    copy.write_bytes(vectors.graph.read_bytes())
    with vae.Decoder(copy, device="cpu") as decoder:
        error = vectors.error(_decode_all(vectors, decoder))
        label = 0 if decoder.spec.classes else None
        ms = time_calls(lambda: decoder(vectors.z[0], label))
    out = str(vectors.work / "sheet.png")
    start = start_time([sys.executable, _SHEET, "--graph", copy, "-n", "1", out])
    size = installed("numpy", "onnxruntime", "pillow", "click") + folder_size(copy)
    return Row("Python, one file", "examples/pillow_script", size + _own(), start, ms, error)


def bare(vectors: Vectors) -> Row:
    """onnxruntime and NumPy alone."""
    graph_spec = importlib.util.spec_from_file_location("digit", _DIGIT)
    assert graph_spec is not None
    assert graph_spec.loader is not None
    digit = importlib.util.module_from_spec(graph_spec)
    graph_spec.loader.exec_module(digit)
    session, spec = digit.open_graph(str(vectors.graph))
    error = vectors.error(digit.decode(session, spec, vectors.z, vectors.label))
    one = vectors.z[:1], vectors.label[:1]
    ms = time_calls(lambda: digit.decode(session, spec, *one))
    start = start_time([sys.executable, _DIGIT, vectors.graph, vectors.work / "digit.pgm"])
    size = installed("numpy", "onnxruntime") + folder_size(vectors.graph)
    return Row("Python, onnxruntime alone", "examples/bare_onnxruntime", size, start, ms, error)


def _own() -> int:
    """The runtime's own code."""
    return folder_size(*_OURS.rglob("*.py"))


def _decode_all(vectors: Vectors, decode: Any) -> np.ndarray:
    """Every golden row; those with the index behind the last class have no label."""
    classes = len(vectors.spec.classes)
    if not classes:
        return np.asarray(decode(vectors.z))
    images = np.empty_like(vectors.image)
    known = vectors.label < classes
    images[known] = decode(vectors.z[known], vectors.label[known])
    images[~known] = decode(vectors.z[~known])
    return images
