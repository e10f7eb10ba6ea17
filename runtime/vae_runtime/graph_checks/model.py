"""Check the structure of an ONNX file and the tensor sizes that its constants imply."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InputError
from . import operators as ops
from .nodes import Node, Tensor, read_node, read_tensor
from .protobuf import BYTES, VARINT, Malformed, Schema, Span, integer, many, message, one, text

_MAX_NODES = 20_000
_MAX_STEPS = 1000  # maximum number of values from which one size is computed
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
_GRAPH: Schema = {
    1: many(BYTES),  # node
    2: one(BYTES),  # name
    5: many(BYTES),  # initializer
    10: one(BYTES),  # doc_string
    11: many(BYTES),  # input
    12: many(BYTES),  # output
    13: many(BYTES),  # value_info
    15: many(BYTES),  # sparse_initializer
    16: many(BYTES),  # metadata_props
}
_VALUE: Schema = {1: one(BYTES), 2: one(BYTES), 3: one(BYTES), 4: many(BYTES)}
_TYPE: Schema = {1: one(BYTES), 6: one(BYTES)}  # tensors only: no sequence, map or optional
_TENSOR_TYPE: Schema = {1: one(VARINT), 2: one(BYTES)}
_SHAPE: Schema = {1: many(BYTES)}
_DIM: Schema = {1: one(VARINT), 2: one(BYTES), 3: one(BYTES)}


def check_graph(raw: bytes, where: str) -> dict[str, str]:
    """Check the bytes of an `.onnx` file without running it or allocating its tensors.

    Args:
        raw: the bytes that will be passed to onnxruntime.
        where: the start of every error message.

    Returns:
        The metadata of the graph.

    Raises:
        InputError: not ONNX, or it contains something that no graph of a bundle needs: sub-graphs,
            functions, custom operators, tensors outside the file, or numbers that would crash
            onnxruntime or exhaust memory.
    """
    try:
        return _model(raw)
    except Malformed as error:
        raise InputError(f"{where}: refused: {error}. Expected what vae-export writes.") from error


def _model(raw: bytes) -> dict[str, str]:
    model = message(raw, (0, len(raw), BYTES), _MODEL, "the model")
    for number, what in ((20, "training information"), (25, "functions")):
        if number in model:
            raise Malformed(f"the model holds {what}")
    if 7 not in model or 8 not in model:
        raise Malformed("not ONNX: no graph, or no operator set")
    for span in model[8]:
        domain = text(raw, message(raw, span, _OPSET, "an operator set"), 1)
        if domain not in ("", "ai.onnx"):
            raise Malformed(f"operators of the custom domain {domain[:80]!r}")
    if not 3 <= integer(model, 1) <= 100:
        raise Malformed(f"not ONNX: IR version {integer(model, 1)}")
    _graph(raw, model[7][0])
    properties: dict[str, str] = {}
    for span in model.get(14, ()):
        entry = message(raw, span, _ENTRY, "the metadata")
        key = text(raw, entry, 1)
        if key in properties:
            raise Malformed(f"the metadata holds {key[:80]!r} twice")
        properties[key] = text(raw, entry, 2)
    return properties


def _graph(raw: bytes, span: Span) -> None:
    graph = message(raw, span, _GRAPH, "the graph")
    if 15 in graph:
        raise Malformed("the graph holds sparse tensors")
    if len(graph.get(1, ())) > _MAX_NODES or len(graph.get(5, ())) > _MAX_NODES:
        raise Malformed(f"the graph holds more than {_MAX_NODES} nodes or tensors")
    tensors: dict[str, Tensor] = {}
    for part in graph.get(5, ()):
        tensor = read_tensor(raw, part)
        if tensor.name in tensors:
            raise Malformed(f"two tensors named {tensor.name[:80]!r}")
        tensors[tensor.name] = tensor
    for number in (11, 12, 13):
        for part in graph.get(number, ()):
            _value(raw, part)
    nodes: list[Node] = []
    for part in graph.get(1, ()):
        node = read_node(raw, part)
        nodes.append(node)
        if node.value is not None:
            tensors[node.outputs[0]] = node.value
    _check_sizes(raw, nodes, tensors)


def _value(raw: bytes, span: Span) -> None:
    """Check that an input or output is a tensor with an allowed type and a possible shape."""
    value = message(raw, span, _VALUE, "an input or output")
    name = text(raw, value, 1)[:80]
    if 2 not in value:
        return
    kind = message(raw, value[2][0], _TYPE, f"the type of {name!r}")
    if 1 not in kind:
        raise Malformed(f"{name!r} is not a tensor")
    tensor = message(raw, kind[1][0], _TENSOR_TYPE, f"the type of {name!r}")
    if integer(tensor, 1) not in ops.ITEM_SIZES:
        raise Malformed(f"{name!r} has the element type {integer(tensor, 1)}")
    total = 1
    if 2 in tensor:
        for part in message(raw, tensor[2][0], _SHAPE, f"the shape of {name!r}").get(1, ()):
            size = integer(message(raw, part, _DIM, f"the shape of {name!r}"), 1)
            total *= max(size, 1)
            if size < 0 or total > ops.MAX_ELEMENTS:
                raise Malformed(f"{name!r} has an impossible shape")


def _check_sizes(data: bytes, nodes: list[Node], tensors: dict[str, Tensor]) -> None:
    """Check the constants that determine output sizes, and refuse integer division by 0.

    Sizes computed from the shapes of other tensors need no limit, because those shapes are
    themselves limited.

    Raises:
        Malformed: an operator would create too many elements, or divides integers by 0.
    """
    makers = {name: node for node in nodes for name in node.outputs if name}
    for node in nodes:
        for index in ops.SIZES.get(node.op, ()):
            if index < len(node.inputs) and node.inputs[index]:
                _check_size(data, node, node.inputs[index], makers, tensors)
        if node.op in ops.DIVIDES and len(node.inputs) > 1:
            divisor = tensors.get(node.inputs[1])
            if divisor and divisor.kind in (ops.INT32, ops.INT64) and 0 in divisor.values(data):
                raise Malformed(f"{node.op} divides integers by zero")


def _check_size(
    data: bytes, node: Node, name: str, makers: dict[str, Node], tensors: dict[str, Tensor]
) -> None:
    total = 1.0
    for constant in _constants(name, makers, tensors):
        for value in constant.values(data):
            total *= max(1.0, abs(value)) if value == value else float("inf")  # NaN is refused too
            if total > ops.MAX_ELEMENTS:
                raise Malformed(f"{node.op} asks for more than {ops.MAX_ELEMENTS:,} elements")


def _constants(name: str, makers: dict[str, Node], tensors: dict[str, Tensor]) -> Iterator[Tensor]:
    """Yield the constants from which a value is computed; the search stops at shapes of tensors."""
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop()
        if current in tensors:
            yield tensors[current]
            continue
        node = makers.get(current)
        if node is None or node.op in ("Shape", "Size"):
            continue
        for source in node.inputs[:1] if node.op in ops.PICKS else node.inputs:
            if source and source not in seen:
                seen.add(source)
                waiting.append(source)
        if len(seen) > _MAX_STEPS:
            raise Malformed("a size is computed in too many steps")
