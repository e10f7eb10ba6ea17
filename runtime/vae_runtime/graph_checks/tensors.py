"""Check one constant of a graph: its shape, and that its bytes are complete."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .operators import FLOAT, INT32, INT64, ITEM_SIZES
from .protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Malformed,
    Schema,
    Span,
    integer,
    integers,
    many,
    message,
    one,
    text,
)  # fmt: skip

_SCHEMA: Schema = {
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
_LISTS = {1: 4, 2: 5, 3: 5, 4: 5, 5: 5, 6: 5, 7: 7, 9: 5, 10: 5, 11: 10, 12: 11, 13: 11, 16: 5}
_MAX_DIMS = 16
_MAX_LISTED = 1 << 16  # numbers listed one by one: small tensors only
_MAX_READ = 64  # elements of a constant that holds sizes
_FORMATS = {FLOAT: "f", INT32: "i", INT64: "q"}


@dataclass(frozen=True)
class Tensor:
    """One constant.

    Attributes:
        name: as nodes refer to it.
        kind: the number of its element type.
        count: the number of its elements.
        span: its bytes, if it is stored raw.
        listed: its values, if they are integers listed one by one.
    """

    name: str
    kind: int
    count: int
    span: Span | None
    listed: tuple[int, ...] = ()

    def values(self, data: bytes) -> tuple[float, ...]:
        """Return its numbers if it is small and of a type that sizes have, else nothing."""
        if self.span is None or self.kind not in _FORMATS or self.count > _MAX_READ:
            return self.listed
        return struct.unpack_from(f"<{self.count}{_FORMATS[self.kind]}", data, self.span[0])


def read_tensor(data: bytes, span: Span) -> Tensor:
    """Check one tensor and find its bytes.

    Raises:
        Malformed: stored outside the file, of another type, or not as many bytes as its shape says.
    """
    found = message(data, span, _SCHEMA, "a tensor")
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
    """Return how many numbers a typed list holds, and its values if they are integers."""
    if number not in (4, 10):
        values = integers(data, {number: spans}, number, _MAX_LISTED)
        return len(values), tuple(values)
    wide = 4 if number == 4 else 8
    total = sum(b - a for a, b, _ in spans)
    if total % wide:
        raise Malformed("a list of numbers is cut off")
    return total // wide, ()
