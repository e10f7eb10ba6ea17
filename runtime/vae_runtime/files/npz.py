"""Reading `.npy` and `.npz` bytes from strangers: a header must fit its bytes to be believed.

NumPy's own readers make the array first, of any size that the header names, and unpack a member of
a zip without a bound.
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
_LONGEST_HEADER = 10_000
_DESCR = re.compile(r"[<>|=](O|[fiubcUSVmM][0-9]{1,9})")
# What zipfile, zlib, ast and numpy raise on bytes that are no such file.
_REFUSED = (
    ValueError, OSError, EOFError, LookupError, TypeError, RuntimeError, SyntaxError,
    OverflowError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(
    raw: bytes, where: str, kinds: str = NUMBERS, limit: int = MAX_BYTES
) -> dict[str, NDArray[Any]]:
    """Arrays by name.

    Args:
        raw: the file.
        where: begins every error message.
        kinds: of dtypes that are read, as in `dtype.kind`; never objects.
        limit: bytes of all arrays together, unpacked.

    Raises:
        InputError: no `.npz`, or one that holds other things or sizes that its bytes do not fill.
        LimitError: more than `limit`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise LimitError(f"{where}: over {limit >> 20} MB of arrays")
            names = [member.filename.removesuffix(".npy") for member in members]
            return {
                name: _array(_unpack(archive, member), f"{where}: {name}", kinds)
                for name, member in zip(names, members, strict=True)
            }
    except (InputError, LimitError):
        raise
    except _REFUSED as error:
        raise InputError(f"{where}: not a readable .npz of plain arrays") from error


def read_npy(raw: bytes, where: str) -> NDArray[Any]:
    """The numbers in the bytes of an `.npy` file; `where` begins the error message.

    Raises:
        InputError: no `.npy`, objects, or a header that does not fit its bytes.
    """
    try:
        return _array(raw, where, NUMBERS)
    except InputError:
        raise
    except _REFUSED as error:
        raise InputError(f"{where}: not a readable .npy of plain numbers") from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """As many bytes as the directory says, and no more, however much the member unpacks to."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("another compression than NumPy's own")
    with archive.open(member) as file:
        raw = file.read(member.file_size)  # read() without a number unpacks all there is
    if len(raw) != member.file_size:
        raise ValueError("fewer bytes than the directory says")
    return raw


def _array(raw: bytes, where: str, kinds: str) -> NDArray[Any]:
    dtype, order, shape, start = _header(raw)
    if dtype.kind not in kinds:
        raise InputError(f"{where}: holds {dtype}, expected plain numbers")
    if math.prod(shape) * dtype.itemsize != len(raw) - start:
        raise ValueError("a header that does not fit its bytes")
    if not math.prod(shape) or not dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype, offset=start).reshape(shape, order=order)


def _header(raw: bytes) -> tuple[np.dtype[Any], Literal["C", "F"], tuple[int, ...], int]:
    """dtype, order and shape, and where the numbers begin (numpy.lib.format, versions 1 and 2)."""
    size = {b"\x93NUMPY\1\0": "<H", b"\x93NUMPY\2\0": "<I"}[raw[:8]]
    start = 8 + struct.calcsize(size)
    (length,) = struct.unpack_from(size, raw, 8)
    if length > min(_LONGEST_HEADER, len(raw) - start):
        raise ValueError("a long header")
    # NumPy's own reader hands what it cannot read to a tokeniser of Python 2.
    header = ast.literal_eval(raw[start : start + length].decode("latin1").strip())
    descr, fortran, shape = (header[key] for key in ("descr", "fortran_order", "shape"))
    if not _DESCR.fullmatch(descr):
        raise ValueError("another dtype than of one number")
    return np.dtype(descr), "F" if fortran else "C", shape, start + length
