"""Turn ONNX models into the graph files of a bundle, and check each against the contract."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import StringStringEntryProto, TensorProto

from vae_runtime.bundle.checksums import graph_with_checksum
from vae_runtime.bundle.spec import (
    METADATA_KEY,
    FileSpec,
    GraphSpec,
    ModelSpec,
    TensorSpec,
    expected_tensors,
)
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.graph_checks import check_graph

from .graphs import Graph
from .options import DEFAULT_OPSET, IR_VERSIONS

PRODUCER = "vae-onnx"
_RANDOM_OPS = {
    "Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
_DTYPES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.INT64: "int64",
    TensorProto.UINT8: "uint8",
}
# Matches a path on the exporting machine: /a/b, C:\a, or a line of a stack trace.
_PATH = re.compile(r"(?:^|[\s\"'=(])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\|\.py\b|\bFile \"")


def write_model(
    model: onnx.ModelProto,
    graph: Graph,
    spec: ModelSpec,
    variant: str = "fp32",
    opset: int = DEFAULT_OPSET,
) -> tuple[bytes, GraphSpec]:
    """Add the bundle's spec to a model and check it.

    Args:
        model: the model, which is changed in place.
        graph: the graph, which determines the role and whether there is a label.
        spec: the model spec, stored in the file's metadata.
        variant: `fp32`, `fp16`, `int8` or `uint8`.
        opset: the opset that `model` must have.

    Returns:
        The bytes of a self-contained `.onnx` file, and the manifest entry for it.

    Raises:
        IntegrityError: the model violates the contract.
        InputError: the runtime would reject the graph.
    """
    _normalise(model, graph, spec, variant)
    tensors = expected_tensors(spec, graph.role, variant, labelled="label" in graph.inputs)
    name = graph.role if variant == "fp32" else f"{graph.role}.{variant}"
    raw = graph_with_checksum(model.SerializeToString(deterministic=True))
    file = file_spec(f"{name}.onnx", raw)
    graph_spec = GraphSpec(graph.role, variant, file, opset, IR_VERSIONS[opset], *tensors)
    check_contract(model, name, graph_spec)
    try:
        check_graph(raw, name)
    except InputError as error:
        reason = error.__cause__ or error
        raise InputError(
            f"{name}: the runtime would refuse this graph: {reason}. Write this part of the module "
            "with other layers; docs/bundle-format.md lists the operators that a graph may use."
        ) from error
    return raw, graph_spec


def file_spec(name: str, raw: bytes) -> FileSpec:
    """Return a file's entry for the manifest."""
    return FileSpec(name, len(raw), hashlib.sha256(raw).hexdigest())


def bundle_id(models: list[onnx.ModelProto], spec: ModelSpec) -> str:
    """Compute a bundle's id, sixteen hexadecimal digits, from its graphs and spec.

    Each file contains the id, so the id is computed before the spec is added to the models.
    """
    total = hashlib.sha256(json.dumps(spec.to_json() | {"id": ""}, sort_keys=True).encode())
    for model in models:
        total.update(model.SerializeToString(deterministic=True))
    return total.hexdigest()[:16]


def _normalise(model: onnx.ModelProto, graph: Graph, spec: ModelSpec, variant: str) -> None:
    """Remove everything that depends on where, when or with which versions the model was made."""
    model.producer_name = PRODUCER
    model.producer_version = ""
    model.doc_string = ""
    model.graph.name = graph.role
    model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].dim_value:
            dims[0].dim_param = "batch"
    graph_spec = spec.to_json() | {"role": graph.role, "variant": variant}
    text = json.dumps(graph_spec, separators=(",", ":"), ensure_ascii=False)
    model.metadata_props.add(key=METADATA_KEY, value=text)


# The contract


def check_contract(model: onnx.ModelProto, name: str, spec: GraphSpec) -> None:
    """Check a model before it is written.

    Args:
        model: the finished model.
        name: the graph's role and variant, for error messages.
        spec: the versions and tensors that the model must have.

    Raises:
        IntegrityError: the model violates a rule; the message describes the first violation.
    """
    for violation in _violations(model, spec):
        raise IntegrityError(f"{name}: {violation}. The graph was not written.")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise IntegrityError(f"{name}: onnx.checker rejects it: {error}") from error


def _violations(model: onnx.ModelProto, spec: GraphSpec) -> Iterator[str]:
    """Describe each rule that the model violates."""
    domains = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if domains != {"ai.onnx": spec.opset}:
        yield f"operator sets {domains}, expected only ai.onnx {spec.opset}"
    if model.ir_version != spec.ir:
        yield f"IR version {model.ir_version}, expected {spec.ir}"
    yield from _tensor_violations("inputs", model.graph.input, spec.inputs)
    yield from _tensor_violations("outputs", model.graph.output, spec.outputs)
    for function in model.functions:
        yield f"contains the function {function.name}"
    yield from _node_violations(model.graph)
    for text in _strings(model):
        if _PATH.search(text):
            yield f"contains the path-like string {text[:80]!r}"


def _tensor_violations(
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
        if shape != spec.shape:
            yield f"{value.name} has shape {list(shape)}, expected {list(spec.shape)}"


def _node_violations(graph: onnx.GraphProto) -> Iterator[str]:
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield f"operator {node.domain}.{node.op_type} is not in ai.onnx"
        if node.op_type in _RANDOM_OPS:
            yield f"operator {node.op_type} is random"
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            yield f"operator {node.op_type} contains a subgraph"
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            yield f"weight {tensor.name} is stored outside the file"


def _strings(message: Message) -> Iterator[str]:
    """Yield all strings in a message except those in the spec, whose class names are the user's."""
    if isinstance(message, StringStringEntryProto) and message.key == METADATA_KEY:
        return
    for field, value in message.ListFields():
        values: Any = [value] if isinstance(value, (str, bytes, Message)) else value
        if field.type == field.TYPE_STRING:
            yield from values
        elif field.type == field.TYPE_MESSAGE:
            for part in values:
                yield from _strings(part)
