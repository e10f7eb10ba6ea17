"""Hosts in Python: the runtime with a bundle, the runtime with one graph, bare onnxruntime."""

from __future__ import annotations

import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

import vae_runtime as vae

from .host import (
    EXAMPLES,
    ROOT,
    Row,
    Vectors,
    folder_size,
    start_time,
    time_calls,
)

_RUNTIME = ROOT / "runtime" / "vae_runtime"
_SHEET = EXAMPLES / "pillow_script" / "sheet.py"
_DIGIT = EXAMPLES / "bare_onnxruntime" / "digit.py"


def installed_size(*names: str) -> int:
    """Total bytes of installed packages, without bytecode."""
    total = 0
    for name in names:
        for file in distribution(name).files or ():
            path = Path(str(file.locate()))
            if path.suffix != ".pyc" and path.is_file():
                total += path.stat().st_size
    return total


def whole_bundle(vectors: Vectors) -> Row:
    """Measure `vae.load` on the whole bundle."""
    with vae.load(vectors.folder, device="cpu") as model:
        error = vectors.error(_decode_all(vectors, model.decode))
        label = 0 if model.spec.classes else None
        ms = time_calls(lambda: model.decode(vectors.z[0], label))
    out = str(vectors.work / "sheet.png")
    start = start_time([sys.executable, _SHEET, "--bundle", vectors.folder, "-n", "1", out])
    size = _runtime_size() + folder_size(vectors.folder)
    return Row("Python, whole bundle", "examples/pillow_script", size, start, ms, error)


def single_graph(vectors: Vectors) -> Row:
    """Measure `vae.Decoder` on one copied file."""
    copy = vectors.work / "copied.onnx"
    copy.write_bytes(vectors.graph.read_bytes())
    with vae.Decoder(copy, device="cpu") as decoder:
        error = vectors.error(_decode_all(vectors, decoder))
        label = 0 if decoder.spec.classes else None
        ms = time_calls(lambda: decoder(vectors.z[0], label))
    out = str(vectors.work / "sheet.png")
    start = start_time([sys.executable, _SHEET, "--graph", copy, "-n", "1", out])
    size = _runtime_size() + folder_size(copy)
    return Row("Python, one file", "examples/pillow_script", size, start, ms, error)


def onnxruntime_alone(vectors: Vectors) -> Row:
    """Measure onnxruntime and NumPy without the runtime, on the sampler."""
    import onnxruntime

    graph = vectors.folder / "sampler.onnx"
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs, image = vectors.sampler
    error = float(np.abs(session.run(["image"], inputs)[0].astype(np.float64) - image).max())
    one = {name: values[:1] for name, values in inputs.items()}
    ms = time_calls(lambda: session.run(["image"], one))
    start = start_time([sys.executable, _DIGIT, graph, "0", vectors.work / "digit.pgm"])
    size = installed_size("numpy", "onnxruntime") + folder_size(graph)
    return Row("Python, onnxruntime alone", "examples/bare_onnxruntime", size, start, ms, error)


def _runtime_size() -> int:
    """Total bytes of the runtime and its dependencies."""
    dependencies = installed_size("numpy", "onnxruntime", "pillow", "click")
    return dependencies + folder_size(*_RUNTIME.rglob("*.py"))


def _decode_all(vectors: Vectors, decode: Any) -> np.ndarray:
    """Decode all golden vectors, with their labels where they have one."""
    if not vectors.spec.classes:
        return np.asarray(decode(vectors.z))
    images = np.empty_like(vectors.image)
    labelled = vectors.labelled
    images[labelled] = decode(vectors.z[labelled], vectors.label[labelled])
    images[~labelled] = decode(vectors.z[~labelled])
    return images
