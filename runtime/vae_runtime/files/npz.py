"""Read untrusted `.npy` and `.npz` files safely.

NumPy's readers allocate whatever size a header claims before reading any data, and decompress zip
members without a limit.
"""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import InputError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 1 << 30
NUMBERS = "fiub"
TEXT = "U"
_MAX_HEADER = 10_000
_DESCR = re.compile(r"[<>|=](O|[fiubcUSVmM][0-9]{1,9})")
# A header exactly as NumPy writes it for little-endian numbers in C order.
_NUMPY_HEADER = re.compile(
    r"\{'descr': '[<|][a-z]\d', 'fortran_order': False, 'shape': \((\d+, ?)*\d*\), \} *\n"
)
# Exceptions that zipfile, zlib, ast and numpy raise on malformed files.
_REFUSED = (
    ValueError, OSError, EOFError, LookupError, TypeError, RuntimeError, SyntaxError,
    OverflowError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(
    raw: bytes,
    where: str,
    kinds: str = NUMBERS,
    max_bytes: int = MAX_BYTES,
    *,
    numpy_only: bool = False,
    refused: dict[str, InputError] | None = None,
) -> dict[str, NDArray[Any]]:
    """Read the arrays of an `.npz` file into a dictionary by name.

    Args:
        raw: the file's bytes.
        where: the start of every error message.
        kinds: accepted values of `dtype.kind`; object arrays are always refused.
        max_bytes: the largest total size of the decompressed arrays.
        numpy_only: accept only little-endian arrays in C order with headers as NumPy writes them.
        refused: receives the error of each array whose dtype is not in `kinds`, which is then left
            out; by default, the first one refuses the file.

    Raises:
        InputError: not an `.npz`, a dtype not in `kinds`, or a header that contradicts the data.
        LimitError: the arrays are larger than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > max_bytes:
                raise LimitError(f"{where}: over {max_bytes >> 20} MB of arrays")
            arrays = {}
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise ValueError("two arrays of the same name")
                content = _unpack(archive, member)
                try:
                    arrays[name] = _read_array(content, f"{where}: {name}", kinds, numpy_only)
                except InputError as error:
                    if refused is None:
                        raise
                    refused[name] = error
            return arrays
    except (InputError, LimitError):
        raise
    except _REFUSED as error:
        raise InputError(f"{where}: not a readable .npz of plain arrays") from error


def read_npy(raw: bytes, where: str) -> NDArray[Any]:
    """Read an `.npy` file of numbers; every error message begins with `where`.

    Raises:
        InputError: not an `.npy`, not numbers, or a header that contradicts the data.
    """
    try:
        return _read_array(raw, where, NUMBERS)
    except InputError:
        raise
    except _REFUSED as error:
        raise InputError(f"{where}: not a readable .npy of plain numbers") from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """Decompress a member up to the size that the zip's directory states."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("a compression that NumPy does not use")
    with archive.open(member) as file:
        raw = file.read(member.file_size)  # without a size, read() decompresses everything
    if len(raw) != member.file_size:
        raise ValueError("fewer bytes than the directory says")
    return raw


def _read_array(raw: bytes, where: str, kinds: str, numpy_only: bool = False) -> NDArray[Any]:
    dtype, order, shape, start = _read_header(raw, numpy_only)
    if dtype.kind not in kinds:
        raise InputError(f"{where}: holds {dtype}, expected plain numbers")
    if math.prod(shape) * dtype.itemsize != len(raw) - start:
        raise ValueError("a header that does not fit its bytes")
    if not math.prod(shape) or not dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype, offset=start).reshape(shape, order=order)


def _read_header(
    raw: bytes, numpy_only: bool
) -> tuple[np.dtype[Any], Literal["C", "F"], tuple[int, ...], int]:
    """Return dtype, order, shape and data offset (numpy.lib.format, versions 1, 2)."""
    size = {b"\x93NUMPY\1\0": "<H", b"\x93NUMPY\2\0": "<I"}[raw[:8]]
    start = 8 + struct.calcsize(size)
    (length,) = struct.unpack_from(size, raw, 8)
    if length > min(_MAX_HEADER, len(raw) - start):
        raise ValueError("a long header")
    text = raw[start : start + length].decode("latin1")
    if numpy_only and not _NUMPY_HEADER.fullmatch(text):
        raise ValueError("not a header that NumPy writes for an array in C order")
    # NumPy's reader would fall back to a tokenizer for Python 2.
    header = ast.literal_eval(text.strip())
    descr, fortran, shape = (header[key] for key in ("descr", "fortran_order", "shape"))
    if not _DESCR.fullmatch(descr):
        raise ValueError("not the dtype of a single number")
    return np.dtype(descr), "F" if fortran else "C", shape, start + length
