"""Read whole files up to a maximum size."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FileError, LimitError, NotFound, describe_os_error

MAX_BYTES = 2 << 30


def read_bytes(path: Path, hint: str = "", max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file.

    Args:
        path: where it is.
        hint: a sentence for the error message if it is missing: what to do.
        max_bytes: the size that it may have.

    Raises:
        NotFound: no such file.
        FileError: it cannot be read.
        LimitError: it is larger than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
            raw = file.read(size + 1)  # not `max_bytes`: that much would be allocated
            if len(raw) > size:  # a device or a pipe has no size
                raw += file.read(max_bytes + 1 - len(raw))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file{hint and f'. {hint}'}") from error
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error
    if len(raw) > max_bytes:
        raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
    return raw
