"""Read the nodes and constants of a graph, and check each by itself."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .operators import BOUNDS, ITEM_SIZES, OTHER, Signature, signature
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

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
MAX_RANK = 16
_MAX_LISTED = 1 << 16  # integers per tensor that is not stored raw
# NumPy's type of each element type; bfloat16 has none.
DTYPES = {
    number: np.dtype(name)
    for number, name in {
        1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
        11: "<f8", 12: "<u4", 13: "<u8",
    }.items()
}  # fmt: skip
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
# For each type of attribute: the field that holds its value, and the number of the type.
_VALUES = {
    "float": (2, 1), "int": (3, 2), "string": (4, 3), "tensor": (5, 4),
    "floats": (7, 6), "ints": (8, 7), "strings": (9, 8),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """A constant tensor.

    Attributes:
        name: the name by which nodes refer to it.
        kind: ONNX number of the element type, a key of `ITEM_SIZES`.
        shape: sizes of its axes.
        value: its elements, without a copy where they are stored raw; None for types that cannot
            hold sizes and are not stored raw, and for bfloat16.
    """

    name: str
    kind: int
    shape: tuple[int, ...]
    value: NDArray[Any] | None


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
    shape = tuple(integers(data, found, 1, MAX_RANK))
    # NumPy refuses large sizes also beside a size of 0.
    if min(shape, default=0) < 0 or math.prod(size or 1 for size in shape) >> 31:
        raise Malformed(f"{shown} has an impossible shape")
    count = math.prod(shape)
    dtype = DTYPES.get(kind)
    if 9 in found:
        start, end, _ = found[9][0]
        if end - start != count * ITEM_SIZES[kind] or found.keys() & {4, 5, 7, 10, 11}:
            raise Malformed(
                f"{shown} has {end - start} bytes, its shape says {count * ITEM_SIZES[kind]}"
            )
        raw = None if dtype is None else np.frombuffer(data, dtype, count, start if count else 0)
        return Tensor(name, kind, shape, None if raw is None else raw.reshape(shape))
    listed, values = _listed(data, found.get(_LISTS[kind], []), _LISTS[kind])
    if listed != count or found.keys() & ({4, 5, 7, 10, 11} - {_LISTS[kind]}):
        raise Malformed(f"{shown} lists {listed} numbers, its shape says {count}")
    if values is None or kind in (10, 16):  # a list holds the bits of a float16
        return Tensor(name, kind, shape, None)
    return Tensor(name, kind, shape, values.astype(dtype).reshape(shape))


def _listed(data: bytes, spans: list[Span], number: int) -> tuple[int, NDArray[Any] | None]:
    """Return the length of a list of numbers, and the numbers themselves."""
    if number not in (4, 10):
        values = integers(data, {number: spans}, number, _MAX_LISTED)
        unsigned = [value % (1 << 64) for value in values] if number == 11 else values
        return len(values), np.array(unsigned, np.uint64 if number == 11 else np.int64)
    size = 4 if number == 4 else 8
    raw = b"".join(data[a:b] for a, b, _ in spans)
    if len(raw) % size:
        raise Malformed("a list of numbers is truncated")
    return len(raw) // size, np.frombuffer(raw, f"<f{size}")


Attribute: TypeAlias = int | float | str | tuple[int, ...] | Tensor | None


@dataclass(frozen=True)
class Node:
    """A node: its operator and signature, its input and output names, and its attributes.

    An attribute is an integer, a float, a text, a tuple of integers or a tensor; lists of floats
    and of texts, which no size depends on, are None.
    """

    op: str
    signature: Signature
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


def read_node(data: bytes, span: Span, opset: int) -> Node:
    """Check one node against its operator's signature.

    Raises:
        Malformed: an operator or attribute is not allowed, a number is out of range, or an input,
            output or attribute is missing.
    """
    found = message(data, span, _NODE, "a node")
    op, domain = text(data, found, 4), text(data, found, 7)
    if domain not in ("", "ai.onnx"):
        raise Malformed(f"an operator of the custom domain {domain[:80]!r}")
    known = signature(op, opset)
    if known is None:
        raise Malformed(f"the operator {op[:80]!r} is not allowed in opset {opset}")
    inputs, outputs = (
        tuple(data[a:b].decode(errors="replace") for a, b, _ in found.get(number, ()))
        for number in (1, 2)
    )
    _check_ends(op, known.inputs, inputs, known.min_inputs, "input")
    _check_ends(op, known.outputs, outputs, 1, "output")
    attributes: dict[str, Attribute] = {}
    for part in found.get(5, ()):
        attribute = message(data, part, _ATTRIBUTE, f"an attribute of {op}")
        name = text(data, attribute, 1)
        if name in attributes:
            raise Malformed(f"{op} has the attribute {name[:80]!r} twice")
        attributes[name] = _read_attribute(data, attribute, op, name, known)
    missing = known.required - attributes.keys()
    if missing:
        raise Malformed(f"{op} has no attribute {min(missing)}")
    return Node(op, known, inputs, outputs, attributes)


def _check_ends(
    op: str, known: tuple[str, ...], names: tuple[str, ...], least: int, what: str
) -> None:
    """Check the number of inputs or outputs, and that none that is required has no name."""
    most = _MAX_ENDS if known and known[-1].endswith("*") else len(known)
    if not least <= len(names) <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise Malformed(f"{op} has {len(names)} {what}s, expected {expected}")
    if names and not names[-1]:
        raise Malformed(f"{op}: the last {what} has no name")  # LayerNormalization crashes
    for index, name in enumerate(names):
        mark = known[min(index, len(known) - 1)][-1]
        if not name and mark != "?":
            raise Malformed(f"{op}: {what} {index} has no name")


def _read_attribute(data: bytes, found: Message, op: str, name: str, known: Signature) -> Attribute:
    """Check an attribute's type and range; return its value."""
    shown = f"{op}.{name[:80]}"
    if 6 in found or 11 in found:
        raise Malformed(f"{shown} contains a sub-graph")
    kind = known.attributes.get(name)
    if kind is None:
        raise Malformed(f"{op} has no attribute {name[:80]!r}")
    number, code = _VALUES[kind]
    if integer(found, 20) != code or found.keys() - {1, 13, 20, number}:
        raise Malformed(f"{shown} has a type that does not fit its value, expected {kind}")
    if kind == "float":
        return struct.unpack_from("<f", data, found[2][0][0])[0] if 2 in found else 0.0
    if kind == "string":
        return _read_word(text(data, found, 4), shown, known.words[name])
    if kind == "tensor":
        if 5 not in found:
            raise Malformed(f"{shown} holds no tensor")
        return read_tensor(data, found[5][0])
    if kind in ("int", "ints"):
        return _read_integers(data, found, number, shown, name)
    if len(found.get(number, ())) > _MAX_NUMBERS:
        raise Malformed(f"{shown} is too long")
    return None


def _read_word(word: str, shown: str, allowed: tuple[str, ...]) -> str:
    if allowed and word not in allowed:
        raise Malformed(f"{shown} is {word[:80]!r}, expected {', '.join(allowed)}")
    return word


def _read_integers(
    data: bytes, found: Message, number: int, shown: str, name: str
) -> int | tuple[int, ...]:
    low, high = BOUNDS.get(name, OTHER)
    values = integers(data, found, number, _MAX_NUMBERS) or ([0] if number == 3 else [])
    for value in values:
        if not low <= value <= high:
            raise Malformed(f"{shown} is {value}, expected {low} to {high}")
    if name in ("to", "output_dtype", "stash_type") and not ITEM_SIZES.keys() | {0} >= set(values):
        raise Malformed(f"{shown} is {values}, an element type that is not allowed")
    return values[0] if number == 3 else tuple(values)
