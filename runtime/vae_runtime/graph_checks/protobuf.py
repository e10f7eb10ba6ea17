"""The protobuf wire format, read in place: no copies, no recursion, every length checked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
Span: TypeAlias = tuple[int, int, int]  # begin, end, wire type; of a VARINT its value, end, type
Schema: TypeAlias = dict[int, tuple[tuple[int, ...], bool]]  # number: wire types, repeated?
Message: TypeAlias = dict[int, list[Span]]


class Malformed(ValueError):
    """Bytes that are no such message; the text says why, without the file's name."""


def one(*wires: int) -> tuple[tuple[int, ...], bool]:
    """A field that stands at most once."""
    return wires, False


def many(*wires: int) -> tuple[tuple[int, ...], bool]:
    """A repeated field."""
    return wires, True


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits, and where it ended."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
        shift += 7
    raise Malformed("not ONNX: a number is cut off or too long")


def signed(value: int) -> int:
    """A varint as the int64 that it stands for."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type and content of each field: the span of its bytes, or value and end."""
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at, end)
        wire = tag & 7
        if wire == BYTES:
            size, at = varint(data, at, end)
            stop = at + size
        elif wire == VARINT:
            value, at = varint(data, at, end)
            yield tag >> 3, wire, value, at
            continue
        elif wire in (FIXED32, FIXED64):
            stop = at + (4 if wire == FIXED32 else 8)
        else:
            raise Malformed("not ONNX: an unknown kind of field")
        if stop > end:
            raise Malformed("not ONNX: a field reaches beyond its end")
        yield tag >> 3, wire, at, stop
        at = stop


def message(data: bytes, span: Span, schema: Schema, what: str) -> Message:
    """All fields of one message by number; only what `schema` knows, nothing single twice."""
    found: Message = {}
    for number, wire, a, b in fields(data, span[0], span[1]):
        known = schema.get(number)
        if known is None:
            raise Malformed(f"{what} holds field {number}, which is not allowed")
        if wire not in known[0]:
            raise Malformed(f"{what}: field {number} is of the wrong kind")
        if number not in found:
            found[number] = [(a, b, wire)]
        elif known[1]:
            found[number].append((a, b, wire))
        else:
            raise Malformed(f"{what}: field {number} stands there twice")
    return found


def text(data: bytes, found: Message, number: int) -> str:
    """A single text field; empty where there is none."""
    if number not in found:
        return ""
    start, end, _ = found[number][0]
    return data[start:end].decode(errors="replace")


def integer(found: Message, number: int, default: int = 0) -> int:
    """A single VARINT field, as a signed number."""
    return signed(found[number][0][0]) if number in found else default


def integers(data: bytes, found: Message, number: int, most: int) -> list[int]:
    """A repeated VARINT field without or with packing: at most `most` signed numbers."""
    values: list[int] = []
    for a, b, wire in found.get(number, ()):
        if wire == VARINT:
            values.append(signed(a))
        else:
            while a < b and len(values) <= most:
                value, a = varint(data, a, b)
                values.append(signed(value))
        if len(values) > most:
            raise Malformed(f"a list of more than {most} numbers")
    return values
