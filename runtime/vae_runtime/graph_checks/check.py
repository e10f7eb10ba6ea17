"""Check that a graph cannot harm the process that runs it: types, sizes and constants.

The graph is followed from its inputs to its outputs for a batch of one row and for the largest
batch that the runtime passes to it. Each tensor then has one exact size, because no size may depend
on the values of the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from ..inference.batching import rows_per_batch
from . import layers, shapes
from .call import Array, Call, Shape, elements
from .model import GraphContents, Value, read_model
from .nodes import Node
from .operators import FLOAT, INTEGERS, ITEM_SIZES, MAX_BYTES, MAX_ELEMENTS, UINT8
from .protobuf import Malformed
from .values import compute

_RULES = shapes.RULES | layers.RULES
# onnxruntime does not fold the first, and turns the second into a stored tensor; neither runs.
_MAY_BE_CONSTANT = ("DequantizeLinear", "Constant")
_DIVISIONS = ("Div", "Mod")
# Inputs that may be an empty list: sizes of a scalar, all axes, or an unused input of Resize.
_MAY_BE_EMPTY = {"Reshape": (1,), "Expand": (1,), "Resize": (1, 2, 3)}


def check_graph(raw: bytes, where: str) -> GraphContents:
    """Check the bytes of an `.onnx` file without running it or allocating its tensors.

    Args:
        raw: the bytes that will be passed to onnxruntime.
        where: the start of every error message.

    Returns:
        The contents of the file.

    Raises:
        InputError: not ONNX, or it contains something that no graph of a bundle needs: sub-graphs,
            functions, custom operators, tensors outside the file, operators whose inputs are all
            constants, or numbers and sizes that would crash onnxruntime or exhaust memory.
    """
    try:
        graph = _read(raw)
        for rows in sorted({1, _largest_batch(graph)}):
            _Run(graph, rows).check()
    except Malformed as error:
        raise InputError(f"{where}: refused: {error}. Expected what vae-export writes.") from error
    return graph


def infer_shapes(raw: bytes, rows: int) -> dict[str, Array]:
    """Return every tensor of a graph by name, as `check_graph` sees it for a batch of `rows`.

    Raises:
        Malformed: the graph is refused.
    """
    run = _Run(_read(raw), rows)
    run.check()
    return run.arrays


def _read(raw: bytes) -> GraphContents:
    """Read a graph, and check everything that does not depend on sizes."""
    graph = read_model(raw)
    _check_names(graph)
    _check_folded(graph)
    return graph


def _check_names(graph: GraphContents) -> None:
    """Check that every tensor has one name and one origin, which comes before its use."""
    known: set[str] = set()

    def add(names: Iterable[str]) -> None:
        for name in names:
            if name in known:
                raise Malformed(f"two values named {name[:80]!r}")
            known.add(name)

    add(graph.tensors)
    add(graph.inputs)
    for node in graph.nodes:
        missing = set(node.inputs) - known - {""}
        if missing:
            raise Malformed(f"{node.op} reads {min(missing)[:80]!r}, which no node before it makes")
        add(filter(None, node.outputs))
    missing = graph.outputs.keys() - known
    if missing:
        raise Malformed(f"nothing makes the output {min(missing)[:80]!r}")


def _check_folded(graph: GraphContents) -> None:
    """Check that no node has only constants as inputs: onnxruntime would run it when it loads."""
    constants = {"", *graph.tensors}
    for node in graph.nodes:
        if constants.issuperset(node.inputs):
            if node.op not in _MAY_BE_CONSTANT:
                raise Malformed(f"{node.op} has only constants as inputs, and was not folded")
            constants.update(node.outputs)


def _largest_batch(graph: GraphContents) -> int:
    """Return the rows of the largest batch that the runtime passes to a graph."""
    image = graph.inputs.get("image") or graph.outputs.get("image")
    sizes = [n for n in image.shape if isinstance(n, int)] if image else []
    return rows_per_batch(math.prod(sizes))


@dataclass
class _Run:
    """The tensors of a graph for one batch size."""

    graph: GraphContents
    rows: int
    arrays: dict[str, Array] = field(default_factory=dict)

    def check(self) -> None:
        """Follow the graph from its inputs to its outputs."""
        for name, tensor in self.graph.tensors.items():
            self.arrays[name] = Array(tensor.kind, tensor.shape, tensor.value, constant=True)
        for name, value in self.graph.inputs.items():
            self.arrays[name] = Array(value.kind, _input_shape(value, self.rows))
        last_use = {name: i for i, node in enumerate(self.graph.nodes) for name in node.inputs}
        last_use |= dict.fromkeys(self.graph.outputs, len(self.graph.nodes))
        expiring: dict[int, list[str]] = {}
        live = 0
        for i, node in enumerate(self.graph.nodes):
            for name, array in self._outputs(node):
                self.arrays[name] = array
                live += _bytes(array)
                expiring.setdefault(last_use.get(name, i), []).append(name)
            if live > MAX_BYTES:
                raise Malformed(f"{node.op}: more than {MAX_BYTES >> 20:,} MB are needed at once")
            live -= sum(_bytes(self.arrays[name]) for name in expiring.get(i, ()))
        for name, value in self.graph.outputs.items():
            self._check_output(value, self.arrays[name])

    def _check_output(self, value: Value, found: Array) -> None:
        """Check that an output is as declared, with one row for each row of the input."""
        wanted = (self.rows, *value.shape[1:])
        fits = len(found.shape) == len(value.shape) and all(
            n == m or isinstance(m, str) for n, m in zip(found.shape, wanted, strict=True)
        )
        if not fits or found.kind != value.kind:
            raise Malformed(
                f"the output {value.name[:80]!r} has the shape {list(found.shape)} for a batch of "
                f"{self.rows}, expected {list(wanted)}"
            )

    def _outputs(self, node: Node) -> list[tuple[str, Array]]:
        call = Call(node, [self.arrays[name] if name else None for name in node.inputs])
        self._check_inputs(call)
        kinds = _bind(call)
        found = _RULES[node.op](call)
        call.check(len(node.outputs) <= len(found), "an output that is not supported")
        outputs = []
        for index, (name, shape) in enumerate(zip(node.outputs, found, strict=False)):
            if elements(shape) > MAX_ELEMENTS:
                raise call.fail(f"asks for more than {MAX_ELEMENTS:,} elements")
            call.check(elements(shape) > 0 or node.op == "Constant", "a result without elements")
            kind = _output_kind(call, index, kinds)
            if name:
                value = compute(call, kind, shape) if len(node.outputs) == 1 else None
                outputs.append((name, Array(kind, shape, value, node.op == "Constant")))
        return outputs

    def _check_inputs(self, call: Call) -> None:
        node = call.node
        for index, one in enumerate(call.inputs):
            if one is not None and 0 in one.shape:
                allowed = _MAY_BE_EMPTY.get(node.op, (1,) if node.op.startswith("Reduce") else ())
                call.check(index in allowed, "an input without elements")
        if node.op in _DIVISIONS and call.array(0).kind in INTEGERS:
            divisor = call.array(1)
            call.check(divisor.constant, "integers are divided by what is not a constant")
            assert divisor.value is not None  # a stored integer always has one
            unsafe = np.isin(divisor.value, (0, -1)).any()
            call.check(not unsafe, "integers are divided by zero or by -1")


def _bytes(array: Array) -> int:
    return elements(array.shape) * ITEM_SIZES[array.kind]


def _input_shape(value: Value, rows: int) -> Shape:
    """Return the shape of an input for a number of rows; only its first axis may be free."""
    if not value.shape or any(isinstance(n, str) for n in value.shape[1:]):
        raise Malformed(f"{value.name[:80]!r}: only the first axis of an input may be free")
    return tuple(rows if isinstance(n, str) else n for n in value.shape)


def _bind(call: Call) -> dict[str, int]:
    """Check the element types of the inputs; return the type of each type variable."""
    found: dict[str, int] = {}
    known = call.node.signature
    for index, one in enumerate(call.inputs):
        if one is None:
            continue
        kind = known.inputs[min(index, len(known.inputs) - 1)].rstrip("?*")
        allowed = known.types.get(kind)
        fits = (
            one.kind == int(kind) if allowed is None
            else one.kind in allowed and found.setdefault(kind, one.kind) == one.kind
        )  # fmt: skip
        call.check(fits, f"input {index} has the element type {one.kind}")
    return found


def _output_kind(call: Call, index: int, bound: dict[str, int]) -> int:
    known, node = call.node.signature, call.node
    kind = known.outputs[min(index, len(known.outputs) - 1)].rstrip("?*")
    allowed = known.types.get(kind)
    if allowed is None:
        return int(kind)
    if kind in bound:
        return bound[kind]
    if len(allowed) == 1:
        return min(allowed)
    tensor = call.tensor("value") if node.op in ("Constant", "ConstantOfShape") else None
    if tensor is not None:
        return tensor.kind
    name = {"Cast": "to", "LayerNormalization": "stash_type"}.get(node.op, "output_dtype")
    default = {
        "QuantizeLinear": UINT8,
        "DequantizeLinear": call.array(1).kind if call.has(1) else 0,
    }
    return call.attribute(name) or default.get(node.op, FLOAT)
