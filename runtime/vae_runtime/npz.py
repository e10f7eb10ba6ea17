"""Reading `.npy` and `.npz` bytes from strangers: a header must fit its bytes to be believed.

NumPy's own readers make the array first, of any size that the header names, and unpack a member of
a zip without a bound.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 1 << 30
NUMBERS = "fiub"
TEXT = "U"
# What zipfile, zlib and numpy raise on bytes that are no such file.
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
        raise ValueError("shorter than the directory says")
    return raw


def _array(raw: bytes, where: str, kinds: str) -> NDArray[Any]:
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(file)
    left = len(raw) - file.tell()
    if dtype.kind not in kinds:
        raise InputError(f"{where}: holds {dtype}, expected plain numbers")
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError("a header that does not fit its bytes")
    if not left:
        return np.empty(shape, dtype)
    flat = np.frombuffer(raw, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
