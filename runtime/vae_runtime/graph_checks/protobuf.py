"""Read protobuf messages without copying or recursion, checking every length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
Span: TypeAlias = tuple[int, int, int]  # begin, end, wire type; for VARINT: value, end, wire type
Schema: TypeAlias = dict[int, tuple[tuple[int, ...], bool]]  # field number: wire types, repeated?
Message: TypeAlias = dict[int, list[Span]]


class Malformed(ValueError):
    """The bytes are not the expected message; the error text does not name the file."""


def one(*encodings: int) -> tuple[tuple[int, ...], bool]:
    """Describe a field that occurs at most once."""
    return encodings, False


def many(*encodings: int) -> tuple[tuple[int, ...], bool]:
    """Describe a repeated field."""
    return encodings, True


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Read an unsigned integer of at most 64 bits; return it and the offset after it."""
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
    raise Malformed("not ONNX: a number is truncated or too long")


def signed(value: int) -> int:
    """Return the int64 that a varint encodes."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field's number, wire type and (start, end); a VARINT yields (value, end)."""
    while at < end:
        tag, at = (data[at], at + 1) if data[at] < 0x80 else varint(data, at, end)
        encoding = tag & 7
        if encoding == BYTES:
            size, at = varint(data, at, end)
            stop = at + size
        elif encoding == VARINT:
            value, at = varint(data, at, end)
            yield tag >> 3, encoding, value, at
            continue
        elif encoding in (FIXED32, FIXED64):
            stop = at + (4 if encoding == FIXED32 else 8)
        else:
            raise Malformed("not ONNX: a field of unknown encoding")
        if stop > end:
            raise Malformed("not ONNX: a field is longer than the message")
        yield tag >> 3, encoding, at, stop
        at = stop


def message(data: bytes, span: Span, schema: Schema, what: str) -> Message:
    """Return the fields of one message by number; error messages begin with `what`.

    Raises:
        Malformed: a field is not in `schema`, has the wrong type, or occurs too often.
    """
    found: Message = {}
    for number, encoding, a, b in fields(data, span[0], span[1]):
        known = schema.get(number)
        if known is None:
            raise Malformed(f"{what} holds field {number}, which is not allowed")
        if encoding not in known[0]:
            raise Malformed(f"{what}: field {number} has the wrong encoding")
        if number not in found:
            found[number] = [(a, b, encoding)]
        elif known[1]:
            found[number].append((a, b, encoding))
        else:
            raise Malformed(f"{what}: field {number} occurs twice")
    return found


def text(data: bytes, found: Message, number: int) -> str:
    """Return a text field, or an empty string if it is missing."""
    if number not in found:
        return ""
    start, end, _ = found[number][0]
    return data[start:end].decode(errors="replace")


def integer(found: Message, number: int, default: int = 0) -> int:
    """Return an integer field, or `default` if it is missing."""
    return signed(found[number][0][0]) if number in found else default


def integers(data: bytes, found: Message, number: int, max_count: int) -> list[int]:
    """Return a repeated integer field, packed or not.

    Raises:
        Malformed: there are more than `max_count` integers.
    """
    values: list[int] = []
    for a, b, encoding in found.get(number, ()):
        if encoding == VARINT:
            values.append(signed(a))
        else:
            while a < b and len(values) <= max_count:
                value, a = varint(data, a, b)
                values.append(signed(value))
        if len(values) > max_count:
            raise Malformed(f"a list of more than {max_count} numbers")
    return values
