"""What every graph of a bundle must be, asserted on the bytes that are about to be written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import StringStringEntryProto, TensorProto

from vae_runtime.bundle.spec import METADATA_KEY, TensorSpec
from vae_runtime.errors import IntegrityError

RANDOM_OPS = {
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
}
# A file of the machine that exported: /a/b, C:\a, or a line of a stack trace.
_PATH = re.compile(r"(?:^|[\s\"'=(])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\|\.py\b|\bFile \"")


@dataclass(frozen=True)
class Contract:
    """What one graph promises.

    Attributes:
        name: of the graph, with its variant; begins each error.
        inputs, outputs: names, dtypes and shapes, in order; the first axis is `batch`.
        opset, ir: versions.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    ir: int


def check_contract(model: onnx.ModelProto, contract: Contract) -> None:
    """Check one graph.

    Raises:
        IntegrityError: the first clause that does not hold.
    """
    for broken in _broken(model, contract):
        raise IntegrityError(f"{contract.name}: {broken}. The graph was not written.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise IntegrityError(f"{contract.name}: onnx.checker refuses it: {error}") from error


def _broken(model: onnx.ModelProto, contract: Contract) -> Iterator[str]:
    """Every clause that does not hold, in words."""
    domains = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if domains != {"ai.onnx": contract.opset}:
        yield f"operator sets {domains}, expected ai.onnx {contract.opset} alone"
    if model.ir_version != contract.ir:
        yield f"IR version {model.ir_version}, expected {contract.ir}"
    yield from _broken_tensors("inputs", model.graph.input, contract.inputs)
    yield from _broken_tensors("outputs", model.graph.output, contract.outputs)
    for function in model.functions:
        yield f"holds the function {function.name}"
    yield from _broken_nodes(model.graph)
    for text in _strings(model):
        if _PATH.search(text):
            yield f"holds the path-like string {text[:80]!r}"


def _broken_tensors(
    kind: str, values: Iterable[onnx.ValueInfoProto], expected: tuple[TensorSpec, ...]
) -> Iterator[str]:
    names = [v.name for v in values]
    if names != [spec.name for spec in expected]:
        yield f"{kind} {names}, expected {[spec.name for spec in expected]}"
        return
    for value, spec in zip(values, expected, strict=True):
        tensor = value.type.tensor_type
        dtype = _DTYPES.get(tensor.elem_type, f"element type {tensor.elem_type}")
        shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
        if dtype != spec.dtype:
            yield f"{value.name} is {dtype}, expected {spec.dtype}"
        if not shape or shape[0] != "batch":
            yield f"{value.name} has shape {list(shape)}, its first axis is not the free batch"
        elif shape != spec.shape:
            yield f"{value.name} has shape {list(shape)}, expected {list(spec.shape)}"


def _broken_nodes(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"operator {node.domain}.{node.op_type} is not of ai.onnx"
        if node.op_type in RANDOM_OPS:
            yield f"operator {node.op_type} is random"
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            yield f"operator {node.op_type} holds a graph of its own"
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            yield f"weight {tensor.name} is stored outside the file"


def _strings(message: Message) -> Iterator[str]:
    """Every string field of a protobuf message, but the spec: class names are the user's own."""
    if isinstance(message, StringStringEntryProto) and message.key == METADATA_KEY:
        return
    for field, value in message.ListFields():
        values: Any = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for part in values:
                yield from _strings(part)
