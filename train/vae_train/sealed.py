"""Files of tensors and plain values that prove themselves: torch's zip with a sha256 inside.

The digest stands in the zip's comment, the last bytes of the file, and covers all bytes before it.
`torch.load` ignores it; `read_sealed` refuses a file whose digest is missing or wrong, because
torch itself does not notice flipped bits.
"""

from __future__ import annotations

import hashlib
import io
import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.files.atomic import write_atomic
from vae_runtime.files.reading import read_bytes

from .container import check_container

_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_ZIP = b"PK\x03\x04"  # how such a file begins
# What torch.load, and those who read what it gave, raise on a file that some other program wrote.
REFUSED = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, UnpicklingError,
)  # fmt: skip


def write_sealed(content: dict[str, Any], path: Path) -> str:
    """Write tensors and plain values; a previous file is replaced only by a whole one.

    Returns:
        The sha256 of the file.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    sealed = add_checksum(buffer.getvalue())
    write_atomic(path, sealed)
    return hashlib.sha256(sealed).hexdigest()


def read_sealed(path: Path) -> tuple[Any, str]:
    """Read what `write_sealed` wrote, after checking its digest and what its zip and pickle hold.

    Only tensors and plain values are unpickled, onto the CPU.

    Returns:
        The content, and the sha256 of the file.

    Raises:
        NotFound: no such file.
        IntegrityError: the bytes are not those that were written.
        InputError: not a file of this kind.
    """
    raw = read_bytes(path, "Train a checkpoint with vae-train.")
    _check_seal(raw, path)
    check_container(raw, path)
    try:
        content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except REFUSED as error:
        raise InputError(f"{path}: not a checkpoint that vae-train wrote") from error
    return content, hashlib.sha256(raw).hexdigest()


def add_checksum(raw: bytes) -> bytes:
    """Append the digest as the zip's comment; its length stands in the last two bytes before."""
    body = raw[:-2] + struct.pack("<H", _COMMENT)
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def _check_seal(raw: bytes, path: Path) -> None:
    body, comment = raw[:-_COMMENT], raw[-_COMMENT:]
    sealed = comment.startswith(_MARK)
    if not sealed and not _ZIP.startswith(raw[: len(_ZIP)]):
        raise InputError(f"{path}: not a checkpoint: neither the start nor the end of one")
    if not sealed:
        raise IntegrityError(
            f"{path}: carries no digest: truncated, or not written by vae-train. "
            "For an own model use vae-export --model."
        )
    if comment[len(_MARK) :].decode(errors="replace") != hashlib.sha256(body).hexdigest():
        raise IntegrityError(f"{path}: damaged: its bytes do not match its sha256. Copy it again.")
