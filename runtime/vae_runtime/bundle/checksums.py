"""The digest that a lone `.onnx` file carries: its last metadata entry, over all bytes before it.

A protobuf message may be appended to, so the seal is a fixed number of bytes at the end of the file
and any ONNX reader sees one more text property. onnxruntime itself accepts half of all flipped
bits without a word.
"""

from __future__ import annotations

import hashlib

from ..errors import IntegrityError

KEY = b"vae_onnx_sha256"
# ModelProto.metadata_props (field 14), holding a key (field 1) and a value (field 2) of 64 digits.
_ENTRY = b"\x0a" + bytes([len(KEY)]) + KEY + b"\x12\x40"
_HEAD = b"\x72" + bytes([len(_ENTRY) + 64]) + _ENTRY
_SIZE = len(_HEAD) + 64
_PRODUCER = b"\x12\x08vae-onnx"  # bytes 2 to 12 of every graph that vae-export writes


def add_checksum(raw: bytes) -> bytes:
    """A serialised graph with its digest behind it; one that has a seal gets a fresh one."""
    body = raw[:-_SIZE] if raw[-_SIZE:].startswith(_HEAD) else raw
    return body + _HEAD + hashlib.sha256(body).hexdigest().encode()


def verify_checksum(raw: bytes, where: str) -> bool:
    """Refuse a graph of ours whose bytes are not those that were written.

    Returns:
        Whether it carries its digest. A file that neither begins nor ends as vae-export writes them
        does not, and is somebody else's.

    Raises:
        IntegrityError: its digest is missing or wrong.
    """
    end = raw[-_SIZE:]
    if end.startswith(_HEAD):
        body = memoryview(raw)[:-_SIZE]
        if end[len(_HEAD) :] == hashlib.sha256(body).hexdigest().encode():
            return True
        raise IntegrityError(
            f"{where}: damaged: its bytes do not match its sha256. Copy or export it again."
        )
    start = raw[2:12]
    # Ours, cut off or with the seal itself damaged; an intact key is enough to know it by.
    if _PRODUCER.startswith(start) or KEY in end:
        raise IntegrityError(
            f"{where}: carries no sha256: truncated, or changed after export. Export it again."
        )
    return False
