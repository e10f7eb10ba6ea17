"""Write a model repository for Triton Inference Server: one folder and `config.pbtxt` per graph."""

from __future__ import annotations

import json
from pathlib import Path

from vae_runtime.bundle.manifest import Manifest
from vae_runtime.bundle.spec import GraphSpec, ModelSpec, TensorSpec
from vae_runtime.files.atomic import write_atomic

from ..writer import make_folder

MAX_BATCH = 256
_DELAY_US = 500  # maximum time that a request waits for others to join its batch
_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "uint8": "TYPE_UINT8"}


def write_triton(
    manifest: Manifest, files: dict[str, bytes], folder: Path, prefix: str
) -> list[str]:
    """Write each graph of a bundle as a Triton model.

    Args:
        manifest: the manifest of the bundle.
        files: the files of the bundle, by name.
        folder: the repository, created if missing. Any other models in it are kept.
        prefix: prefix of each model's name: `mnist` → `mnist_decoder`.

    Returns:
        The names of the models.

    Raises:
        FileError: a file cannot be written.
    """
    names = []
    for spec in manifest.graphs:
        name = f"{prefix}_{spec.file.file.removesuffix('.onnx').replace('.', '_')}"
        model = folder / name
        make_folder(model / "1")
        write_atomic(model / "1" / "model.onnx", files[spec.file.file])
        write_atomic(model / "config.pbtxt", config_text(name, spec, manifest.spec).encode())
        if manifest.spec.classes:
            labels = "".join(f"{label}\n" for label in manifest.spec.classes)
            write_atomic(model / "labels.txt", labels.encode())
        names.append(name)
    return names


def config_text(name: str, graph_spec: GraphSpec, spec: ModelSpec) -> str:
    """Format one `config.pbtxt`, for the onnxruntime backend with dynamic batching."""
    parts = [
        f"name: {_quoted(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {MAX_BATCH}",
        *(_tensor("input", tensor) for tensor in graph_spec.inputs),
        *(_tensor("output", tensor) for tensor in graph_spec.outputs),
        f"dynamic_batching {{\n  max_queue_delay_microseconds: {_DELAY_US}\n}}",
        # One thread is fastest for graphs this small.
        _parameter("intra_op_thread_count", "1"),
        _parameter("vae_onnx_bundle", spec.id),
    ]
    if spec.classes:
        parts.append(_parameter("labels", "labels.txt"))
    return "\n".join(parts) + "\n"


def _tensor(kind: str, tensor: TensorSpec) -> str:
    lines = [f"  name: {_quoted(tensor.name)}", f"  data_type: {_TYPES[tensor.dtype]}"]
    if tensor.shape[1:]:
        lines.append(f"  dims: [ {', '.join(str(n) for n in tensor.shape[1:])} ]")
    else:
        # Triton needs at least one dimension: a request holds [N, 1], the graph gets [N].
        lines += ["  dims: [ 1 ]", "  reshape { shape: [ ] }"]
    return f"{kind} {{\n" + "\n".join(lines) + "\n}"


def _parameter(key: str, value: str) -> str:
    return f"parameters {{\n  key: {_quoted(key)}\n  value {{ string_value: {_quoted(value)} }}\n}}"


def _quoted(text: str) -> str:
    """Quote a string for protobuf's text format, which accepts JSON's ASCII escapes."""
    return json.dumps(text)
