"""Read whole files up to a maximum size."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FileError, LimitError, NotFound, describe_os_error

MAX_BYTES = 2 << 30


def read_bytes(path: Path, hint: str = "", max_bytes: int = MAX_BYTES) -> bytes:
    """Read a whole file.

    Args:
        path: the file.
        hint: a sentence added to the error message if the file is missing.
        max_bytes: the largest size to read.

    Raises:
        NotFound: the file does not exist.
        FileError: the file cannot be read.
        LimitError: the file is larger than `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > max_bytes:
                raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
            raw = file.read(size + 1)  # `max_bytes` would be allocated at once
            if len(raw) > size:  # devices and pipes report a size of 0
                raw += file.read(max_bytes + 1 - len(raw))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file{hint and f'. {hint}'}") from error
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error
    if len(raw) > max_bytes:
        raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
    return raw
