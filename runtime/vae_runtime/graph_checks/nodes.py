"""Check individual nodes and constants of a graph."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .operators import ALLOWED, BOUNDS, FLOAT, INT32, INT64, ITEM_SIZES, OTHER
from .protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
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

_TENSOR: Schema = {
    1: many(VARINT, BYTES),  # dims
    2: one(VARINT),  # data_type
    4: many(FIXED32, BYTES),  # float_data
    5: many(VARINT, BYTES),  # int32_data
    7: many(VARINT, BYTES),  # int64_data
    8: one(BYTES),  # name
    9: one(BYTES),  # raw_data
    10: many(FIXED64, BYTES),  # double_data
    11: many(VARINT, BYTES),  # uint64_data
    12: one(BYTES),  # doc_string
    13: many(BYTES),  # external_data
    14: one(VARINT),  # data_location
    16: many(BYTES),  # metadata_props
}
# The field that lists the values of each element type.
_LISTS = {1: 4, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 7, 9: 5, 10: 5, 11: 10, 12: 11, 13: 11, 16: 5}
_MAX_DIMS = 16
_MAX_LISTED = 1 << 16  # integers per tensor that is not stored raw
_MAX_READ = 64  # elements of a constant that can hold sizes
_FORMATS = {FLOAT: "f", INT32: "i", INT64: "q"}
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
_NUMBERS = {3: 2, 8: 7}  # the value of `type` for i and ints


@dataclass(frozen=True)
class Tensor:
    """A constant tensor.

    Attributes:
        name: the name by which nodes refer to it.
        kind: ONNX number of the element type, a key of `ITEM_SIZES`.
        count: number of elements.
        span: the bytes of its values, if they are stored raw.
        listed: its values, if they are stored as a list of integers.
    """

    name: str
    kind: int
    count: int
    span: Span | None
    listed: tuple[int, ...] = ()

    def values(self, data: bytes) -> tuple[float, ...]:
        """Return a small tensor's values if its type can hold sizes; otherwise, an empty tuple."""
        if self.span is None or self.kind not in _FORMATS or self.count > _MAX_READ:
            return self.listed
        return struct.unpack_from(f"<{self.count}{_FORMATS[self.kind]}", data, self.span[0])


def read_tensor(data: bytes, span: Span) -> Tensor:
    """Check one tensor.

    Raises:
        Malformed: the tensor is stored outside the file, has a type that is not allowed, or has a
            different number of values than its shape implies.
    """
    found = message(data, span, _TENSOR, "a tensor")
    name = text(data, found, 8)
    shown = f"the tensor {name[:80]!r}"
    if 13 in found or integer(found, 14):
        raise Malformed(f"{shown} is stored outside the file")
    kind = integer(found, 2)
    if kind not in ITEM_SIZES:
        raise Malformed(f"{shown} has the element type {kind}")
    count = 1
    for size in integers(data, found, 1, _MAX_DIMS):
        count *= size
        if size < 0 or count >> 31:
            raise Malformed(f"{shown} has an impossible shape")
    if 9 in found:
        start, end, _ = found[9][0]
        if end - start != count * ITEM_SIZES[kind] or found.keys() & {4, 5, 7, 10, 11}:
            raise Malformed(
                f"{shown} has {end - start} bytes, its shape says {count * ITEM_SIZES[kind]}"
            )
        return Tensor(name, kind, count, found[9][0])
    listed, values = _listed(data, found.get(_LISTS[kind], []), _LISTS[kind])
    if listed != count or found.keys() & ({4, 5, 7, 10, 11} - {_LISTS[kind]}):
        raise Malformed(f"{shown} lists {listed} numbers, its shape says {count}")
    return Tensor(name, kind, count, None, values)


def _listed(data: bytes, spans: list[Span], number: int) -> tuple[int, tuple[int, ...]]:
    """Return the length of a list of numbers, and the numbers themselves if they are integers."""
    if number not in (4, 10):
        values = integers(data, {number: spans}, number, _MAX_LISTED)
        return len(values), tuple(values)
    count, rest = divmod(sum(b - a for a, b, _ in spans), 4 if number == 4 else 8)
    if rest:
        raise Malformed("a list of numbers is truncated")
    return count, ()


@dataclass(frozen=True)
class Node:
    """A node: its operator, its input and output names, and its value if it is a Constant."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    value: Tensor | None


def read_node(data: bytes, span: Span) -> Node:
    """Check one node.

    Raises:
        Malformed: an operator or attribute is not allowed, or a number is out of range.
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
    """Check an attribute; return its tensor, its integers as a tensor, or None for other types."""
    if 6 in found or 11 in found:
        raise Malformed(f"{shown} contains a sub-graph")
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
            raise Malformed(f"{shown} has a type that does not fit its value")
        if name == "to" and not ITEM_SIZES.keys() >= set(values):
            raise Malformed(f"{shown} is {values}, an element type that is not allowed")
        if name in ("value_int", "value_ints"):
            return Tensor(name, 7, len(values), None, tuple(values))
    return read_tensor(data, found[5][0]) if 5 in found else None
