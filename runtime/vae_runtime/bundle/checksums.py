"""Write and verify the sha256 checksums embedded in files.

A checksum is 64 hexadecimal digits at a fixed position, so no parsing is needed to verify it:

- `manifest.json` begins with its checksum, which covers every byte after it.
- A graph ends with its checksum, in the last metadata entry; it covers every byte before it.
- A zip ends with its checksum, in the comment `sha256:…`. It covers every byte before the digits
  except the contents of the bundle's files; their checksums are in the manifest.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from ..errors import IntegrityError

GRAPH_KEY = b"vae_onnx_sha256"
COMMENT_SIZE = len(b"sha256:") + 64

_DIGITS = 64
_MANIFEST_START = b'{\n "sha256": "'
_MANIFEST_END = b'",'
_MANIFEST_SIZE = len(_MANIFEST_START) + _DIGITS + len(_MANIFEST_END)
# An entry of ModelProto.metadata_props (field 14): a key (field 1) and a value (field 2) of 64
# digits. Fields may be appended to a protobuf message, so ONNX readers see one more property.
_ENTRY = b"\x0a" + bytes([len(GRAPH_KEY)]) + GRAPH_KEY + b"\x12\x40"
_GRAPH_START = b"\x72" + bytes([len(_ENTRY) + _DIGITS]) + _ENTRY
_GRAPH_SIZE = len(_GRAPH_START) + _DIGITS
_PRODUCER = b"\x12\x08vae-onnx"  # bytes 2 to 12 of every graph that vae-export writes
_ZIP_MARK = b"sha256:"


def manifest_with_checksum(raw: bytes) -> bytes:
    """Insert the checksum at the start of a JSON object, or replace the checksum it has."""
    rest = raw[_MANIFEST_SIZE:] if raw.startswith(_MANIFEST_START) else raw[1:]
    return _MANIFEST_START + _sha256(rest) + _MANIFEST_END + rest


def verify_manifest(raw: bytes, where: str) -> bool:
    """Verify the checksum of a manifest; return False if it has none.

    Raises:
        IntegrityError: the checksum is wrong.
    """
    if not raw.startswith(_MANIFEST_START):
        return False
    if raw != manifest_with_checksum(raw):
        raise IntegrityError(
            f"{where}: damaged or edited: its bytes do not match its own sha256. "
            "Copy or export the bundle again."
        )
    return True


def graph_with_checksum(raw: bytes) -> bytes:
    """Append the checksum to a serialized graph, or replace the checksum it has."""
    body = raw[:-_GRAPH_SIZE] if raw[-_GRAPH_SIZE:].startswith(_GRAPH_START) else raw
    return body + _GRAPH_START + _sha256(body)


def verify_graph(raw: bytes, where: str) -> bool:
    """Verify the checksum of a graph; return False if it has none.

    This matters because onnxruntime reports only half of all single-bit errors. A graph that
    neither begins nor ends like vae-export's comes from another program and has no checksum.

    Raises:
        IntegrityError: the checksum is wrong, or it is missing from a graph that vae-export wrote.
    """
    end = raw[-_GRAPH_SIZE:]
    if end.startswith(_GRAPH_START):
        if end[-_DIGITS:] != _sha256(memoryview(raw)[:-_GRAPH_SIZE]):
            raise IntegrityError(
                f"{where}: damaged: its bytes do not match its sha256. Copy or export it again."
            )
        return True
    # The file is truncated, or its checksum is damaged but the key before it is intact.
    if _PRODUCER.startswith(raw[2:12]) or GRAPH_KEY in end:
        raise IntegrityError(
            f"{where}: carries no sha256: truncated, or changed after export. Export it again."
        )
    return False


def zip_with_checksum(raw: bytes, contents: Iterable[tuple[int, int]] = ()) -> bytes:
    """Append the checksum to a zip as its comment.

    Args:
        raw: a zip without a comment; its last two bytes are the comment's length, 0.
        contents: ordered byte spans (start, end) that the checksum does not cover.
    """
    body = raw[:-2] + struct.pack("<H", COMMENT_SIZE) + _ZIP_MARK
    return body + _sha256(*_outside(body, contents))


def verify_zip(raw: bytes, where: str, contents: Iterable[tuple[int, int]] = ()) -> bool:
    """Verify the checksum of a zip; return False if it has none. See `zip_with_checksum`.

    Raises:
        IntegrityError: the checksum is wrong.
    """
    if not raw[-COMMENT_SIZE:].startswith(_ZIP_MARK):
        return False
    body = memoryview(raw)[:-_DIGITS]
    if raw[-_DIGITS:] != _sha256(*_outside(body, contents)):
        raise IntegrityError(
            f"{where}: damaged: its bytes do not match its sha256. Copy the file again."
        )
    return True


def _outside(
    raw: bytes | memoryview, spans: Iterable[tuple[int, int]]
) -> Iterable[bytes | memoryview]:
    view, at = memoryview(raw), 0
    for start, end in spans:
        yield view[at:start]
        at = end
    yield view[at:]


def _sha256(*parts: bytes | memoryview) -> bytes:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest().encode()
