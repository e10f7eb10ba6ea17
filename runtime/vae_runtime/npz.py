"""Reading `.npz` bytes from strangers: each array's header must fit its bytes before it is made."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 1 << 30  # of all arrays together, unpacked
_KINDS = "fiub"
# What zipfile, zlib and numpy raise on bytes that are no such file.
_REFUSED = (
    ValueError, OSError, EOFError, LookupError, TypeError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(raw: bytes, where: str) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by name; `where` begins every error message.

    Raises:
        InputError: no `.npz`, or one that holds objects or sizes that its bytes do not fill.
        LimitError: more than `MAX_BYTES` when unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise LimitError(f"{where}: over {MAX_BYTES >> 20} MB of arrays")
            return {m.filename.removesuffix(".npy"): _array(archive.read(m)) for m in members}
    except LimitError:
        raise
    except _REFUSED as error:
        raise InputError(f"{where}: not a readable .npz of numbers") from error


def _array(raw: bytes) -> NDArray[Any]:
    file = io.BytesIO(raw)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, fortran, dtype = read(file)
    left = len(raw) - file.tell()
    if dtype.kind not in _KINDS or math.prod(shape) * dtype.itemsize != left:
        raise ValueError("no numbers, or a header that does not fit")
    flat = np.frombuffer(raw, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
