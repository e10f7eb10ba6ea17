"""Read files within a size limit."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import FileError, LimitError, NotFound, describe_os_error

MAX_BYTES = 2 << 30


def read_bytes(path: Path, hint: str = "", limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file.

    Args:
        path: of the file.
        hint: what to do where there is none, a sentence.
        limit: bytes that it may have.

    Raises:
        NotFound: no such file.
        FileError: it cannot be read.
        LimitError: it is larger than `limit`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise LimitError(f"{path}: over {limit >> 20:,} MB")
            raw = file.read(size + 1)  # not `limit`: that much would be allocated
            if len(raw) > size:  # what is no plain file has no size
                raw += file.read(limit + 1 - len(raw))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file{hint and f'. {hint}'}") from error
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error
    if len(raw) > limit:
        raise LimitError(f"{path}: over {limit >> 20:,} MB")
    return raw
