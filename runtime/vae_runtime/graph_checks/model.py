"""Read the structure of an `.onnx` file: nodes, constants, inputs, outputs and metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from .call import elements
from .nodes import MAX_RANK, Node, Tensor, read_node, read_tensor
from .operators import ITEM_SIZES, MAX_ELEMENTS, TYPE_NAMES, opsets
from .protobuf import BYTES, VARINT, Malformed, Schema, Span, integer, many, message, one, text

_MAX_NODES = 20_000
_MODEL: Schema = {
    1: one(VARINT),  # ir_version
    2: one(BYTES),  # producer_name
    3: one(BYTES),  # producer_version
    4: one(BYTES),  # domain
    5: one(VARINT),  # model_version
    6: one(BYTES),  # doc_string
    7: one(BYTES),  # graph
    8: many(BYTES),  # opset_import
    14: many(BYTES),  # metadata_props
    20: many(BYTES),  # training_info
    25: many(BYTES),  # functions
}
_OPSET: Schema = {1: one(BYTES), 2: one(VARINT)}
_ENTRY: Schema = {1: one(BYTES), 2: one(BYTES)}
# Not value_info (field 13): onnxruntime would believe what it says about intermediate shapes.
_GRAPH: Schema = {
    1: many(BYTES),  # node
    2: one(BYTES),  # name
    5: many(BYTES),  # initializer
    10: one(BYTES),  # doc_string
    11: many(BYTES),  # input
    12: many(BYTES),  # output
    15: many(BYTES),  # sparse_initializer
    16: many(BYTES),  # metadata_props
}
_VALUE: Schema = {1: one(BYTES), 2: one(BYTES), 3: one(BYTES), 4: many(BYTES)}
_TYPE: Schema = {1: one(BYTES), 6: one(BYTES)}  # tensors only: no sequence, map or optional
_TENSOR_TYPE: Schema = {1: one(VARINT), 2: one(BYTES)}
_SHAPE: Schema = {1: many(BYTES)}
_DIM: Schema = {1: one(VARINT), 2: one(BYTES), 3: one(BYTES)}


@dataclass(frozen=True)
class Value:
    """An input or output of a graph, as the file declares it.

    Attributes:
        name: its name.
        kind: ONNX number of the element type.
        shape: sizes of its axes; a text for a size that is free.
    """

    name: str
    kind: int
    shape: tuple[int | str, ...]

    @property
    def type(self) -> str:
        """The element type as onnxruntime writes it, such as `tensor(float)`."""
        return f"tensor({TYPE_NAMES[self.kind]})"


@dataclass(frozen=True)
class GraphContents:
    """The contents of an `.onnx` file, except for what only documents it."""

    nodes: list[Node]
    tensors: dict[str, Tensor]
    inputs: dict[str, Value]
    outputs: dict[str, Value]
    metadata: dict[str, str]


def read_model(raw: bytes) -> GraphContents:
    """Read the bytes of an `.onnx` file, checking each part by itself.

    Raises:
        Malformed: a part is not allowed.
    """
    model = message(raw, (0, len(raw), BYTES), _MODEL, "the model")
    for number, what in ((20, "training information"), (25, "functions")):
        if number in model:
            raise Malformed(f"the model holds {what}")
    if 7 not in model or 8 not in model:
        raise Malformed("not ONNX: no graph, or no operator set")
    if not 3 <= integer(model, 1) <= 100:
        raise Malformed(f"not ONNX: IR version {integer(model, 1)}")
    opset = _read_opset(raw, model[8])
    graph = message(raw, model[7][0], _GRAPH, "the graph")
    if 15 in graph:
        raise Malformed("the graph holds sparse tensors")
    if len(graph.get(1, ())) > _MAX_NODES or len(graph.get(5, ())) > _MAX_NODES:
        raise Malformed(f"the graph holds more than {_MAX_NODES} nodes or tensors")
    tensors = _by_name((read_tensor(raw, span) for span in graph.get(5, ())), "tensors")
    inputs, outputs = (
        _by_name((_read_value(raw, span) for span in graph.get(number, ())), "inputs or outputs")
        for number in (11, 12)
    )
    nodes = [read_node(raw, part, opset) for part in graph.get(1, ())]
    return GraphContents(nodes, tensors, inputs, outputs, _read_metadata(raw, model.get(14, [])))


def _read_metadata(raw: bytes, spans: list[Span]) -> dict[str, str]:
    found: dict[str, str] = {}
    for span in spans:
        entry = message(raw, span, _ENTRY, "the metadata")
        key = text(raw, entry, 1)
        if key in found:
            raise Malformed(f"the metadata holds {key[:80]!r} twice")
        found[key] = text(raw, entry, 2)
    return found


N = TypeVar("N", Tensor, Value)


def _by_name(parts: Iterable[N], what: str) -> dict[str, N]:
    found: dict[str, N] = {}
    for part in parts:
        if part.name in found:
            raise Malformed(f"two {what} named {part.name[:80]!r}")
        found[part.name] = part
    return found


def _read_opset(raw: bytes, spans: list[Span]) -> int:
    oldest, newest = opsets()
    if len(spans) > 1:
        raise Malformed("several operator sets, expected ai.onnx only")
    found = message(raw, spans[0], _OPSET, "an operator set")
    domain, version = text(raw, found, 1), integer(found, 2)
    if domain not in ("", "ai.onnx"):
        raise Malformed(f"operators of the custom domain {domain[:80]!r}")
    if not oldest <= version <= newest:
        raise Malformed(f"opset {version}, expected {oldest} to {newest}")
    return version


def _read_value(raw: bytes, span: Span) -> Value:
    """Check that an input or output is a tensor with an allowed type and a possible shape."""
    value = message(raw, span, _VALUE, "an input or output")
    name = text(raw, value, 1)
    shown = repr(name[:80])
    if 2 not in value:
        raise Malformed(f"{shown} has no type")
    kind = message(raw, value[2][0], _TYPE, f"the type of {shown}")
    if 1 not in kind:
        raise Malformed(f"{shown} is not a tensor")
    tensor = message(raw, kind[1][0], _TENSOR_TYPE, f"the type of {shown}")
    if integer(tensor, 1) not in ITEM_SIZES:
        raise Malformed(f"{shown} has the element type {integer(tensor, 1)}")
    if 2 not in tensor:
        raise Malformed(f"{shown} has no shape")
    shape: list[int | str] = []
    for part in message(raw, tensor[2][0], _SHAPE, f"the shape of {shown}").get(1, ()):
        dim = message(raw, part, _DIM, f"the shape of {shown}")
        if 1 in dim and integer(dim, 1) <= 0:
            raise Malformed(f"{shown} has an impossible shape")
        shape.append(integer(dim, 1) if 1 in dim else text(raw, dim, 2))
    sizes = tuple(n for n in shape if isinstance(n, int))
    if len(shape) > MAX_RANK or elements(sizes) > MAX_ELEMENTS:
        raise Malformed(f"{shown} has an impossible shape")
    return Value(name, integer(tensor, 1), tuple(shape))
