"""Check one node of a graph: an allowed operator with attributes in range."""

from __future__ import annotations

from dataclasses import dataclass

from .operators import ALLOWED, BOUNDS, ITEM_SIZES, OTHER
from .protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Malformed,
    Message,
    Schema,
    Span,
    integer,
    integers,
    many,
    message,
    one,
    text,
)  # fmt: skip
from .tensors import Tensor, read_tensor

_MAX_ENDS = 4096  # inputs or outputs per node
_MAX_NUMBERS = 256  # per attribute
_NODE: Schema = {
    1: many(BYTES),  # input
    2: many(BYTES),  # output
    3: one(BYTES),  # name
    4: one(BYTES),  # op_type
    5: many(BYTES),  # attribute
    6: one(BYTES),  # doc_string
    7: one(BYTES),  # domain
    9: many(BYTES),  # metadata_props
}
_ATTRIBUTE: Schema = {
    1: one(BYTES),  # name
    2: one(FIXED32),  # f
    3: one(VARINT),  # i
    4: one(BYTES),  # s
    5: one(BYTES),  # t
    6: one(BYTES),  # g
    7: many(FIXED32, BYTES),  # floats
    8: many(VARINT, BYTES),  # ints
    9: many(BYTES),  # strings
    11: many(BYTES),  # graphs
    13: one(BYTES),  # doc_string
    20: one(VARINT),  # type
}
_NUMBERS = {3: 2, 8: 7}  # the `type` that goes with i and ints


@dataclass(frozen=True)
class Node:
    """An operator, the names of its inputs and outputs, and its value if it is a constant."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    value: Tensor | None


def read_node(data: bytes, span: Span) -> Node:
    """Check one node.

    Raises:
        Malformed: an operator or attribute that is not allowed, or a number out of range.
    """
    found = message(data, span, _NODE, "a node")
    op, domain = text(data, found, 4), text(data, found, 7)
    if domain not in ("", "ai.onnx"):
        raise Malformed(f"an operator of the custom domain {domain[:80]!r}")
    if op not in ALLOWED:
        raise Malformed(f"the operator {op[:80]!r} is not allowed")
    ends = [found.get(1, []), found.get(2, [])]
    if max(map(len, ends)) > _MAX_ENDS or not ends[1]:
        raise Malformed(f"{op} has no outputs, or too many")
    value = None
    names = set()
    for part in found.get(5, ()):
        attribute = message(data, part, _ATTRIBUTE, f"an attribute of {op}")
        name = text(data, attribute, 1)
        if name in names:
            raise Malformed(f"{op} has the attribute {name[:80]!r} twice")
        names.add(name)
        value = _check_attribute(data, attribute, f"{op}.{name[:80]}") or value
    inputs, outputs = (
        tuple(data[a:b].decode(errors="replace") for a, b, _ in side) for side in ends
    )
    if value is not None and op not in ("Constant", "ConstantOfShape"):
        raise Malformed(f"{op} holds a tensor")
    return Node(op, inputs, outputs, value if op == "Constant" else None)


def _check_attribute(data: bytes, found: Message, shown: str) -> Tensor | None:
    """Check one attribute; return its tensor, or its integers as one, or None."""
    if 6 in found or 11 in found:
        raise Malformed(f"{shown} holds a graph of its own")
    name = shown.partition(".")[2]
    if len(found.get(7, ())) > _MAX_NUMBERS or len(found.get(9, ())) > _MAX_NUMBERS:
        raise Malformed(f"{shown} is too long")
    for number in found.keys() & _NUMBERS.keys():
        low, high = BOUNDS.get(name, OTHER)
        values = integers(data, found, number, _MAX_NUMBERS)
        for value in values:
            if not low <= value <= high:
                raise Malformed(f"{shown} is {value}, expected {low} to {high}")
        if integer(found, 20, _NUMBERS[number]) != _NUMBERS[number]:
            raise Malformed(f"{shown} has another type than it says")
        if name == "to" and not ITEM_SIZES.keys() >= set(values):
            raise Malformed(f"{shown} is {values}, an element type that is not allowed")
        if name in ("value_int", "value_ints"):
            return Tensor(name, 7, len(values), None, tuple(values))
    return read_tensor(data, found[5][0]) if 5 in found else None
