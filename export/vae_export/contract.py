"""What every graph of a bundle must be, asserted on the bytes that are about to be written."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx
from google.protobuf.message import Message
from onnx import StringStringEntryProto, TensorProto

from vae_runtime.card import METADATA_KEY
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
_DTYPES = {
    "image": TensorProto.FLOAT,
    "z": TensorProto.FLOAT,
    "mu": TensorProto.FLOAT,
    "log_var": TensorProto.FLOAT,
    "label": TensorProto.INT64,
}
# A file of the machine that exported: /home/…, C:\…, or a line of a stack trace.
_PATH = re.compile(r"/(?:home|root|usr|tmp|opt|var|mnt|Users)/|[A-Za-z]:\\|\.py\b|\bFile \"")


def check_contract(
    model: onnx.ModelProto,
    role: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    opset: int,
    ir: int,
) -> None:
    """Check one graph.

    Raises:
        IntegrityError: the first clause that does not hold.
    """
    for broken in _broken(model, inputs, outputs, opset, ir):
        raise IntegrityError(f"{role}: {broken}. The graph was not written.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise IntegrityError(f"{role}: onnx.checker refuses it: {error}") from error


def _broken(
    model: onnx.ModelProto,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    opset: int,
    ir: int,
) -> Iterator[str]:
    """Every clause that does not hold, in words."""
    domains = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if domains != {"ai.onnx": opset}:
        yield f"operator sets {domains}, expected ai.onnx {opset} alone"
    if model.ir_version != ir:
        yield f"IR version {model.ir_version}, expected {ir}"
    for kind, values, names in (
        ("inputs", model.graph.input, inputs),
        ("outputs", model.graph.output, outputs),
    ):
        if tuple(v.name for v in values) != names:
            yield f"{kind} {[v.name for v in values]}, expected {list(names)}"
        for value in values:
            yield from _broken_tensor(value)
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"operator {node.domain}.{node.op_type} is not of ai.onnx"
        if node.op_type in RANDOM_OPS:
            yield f"operator {node.op_type} is random"
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            yield f"weight {tensor.name} is stored outside the file"
    for text in _strings(model):
        if _PATH.search(text):
            yield f"holds the path-like string {text[:80]!r}"


def _strings(message: Message) -> Iterator[str]:
    """Every string field of a protobuf message, but the card: class names are the user's own."""
    if isinstance(message, StringStringEntryProto) and message.key == METADATA_KEY:
        return
    for field, value in message.ListFields():
        values = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for part in values:
                yield from _strings(part)


def _broken_tensor(value: onnx.ValueInfoProto) -> Iterator[str]:
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    if tensor.elem_type != _DTYPES.get(value.name):
        yield f"{value.name} has element type {tensor.elem_type}"
    if not dims or dims[0].dim_param != "batch":
        yield f"{value.name}: its first axis is not symbolic"
    if any(not d.dim_value for d in dims[1:]):
        yield f"{value.name}: an axis besides the first is not a fixed number"
