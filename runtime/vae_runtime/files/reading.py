"""Read whole files up to a maximum size."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import FileError, InputError, LimitError, NotFound, describe_os_error

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
        InputError: it is a device.
        LimitError: the file is larger than `max_bytes`.
    """
    with _opened(path, hint) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
        raw = file.read(size + 1)  # `max_bytes` would be allocated at once
        if len(raw) > size:  # pipes report a size of 0
            raw += file.read(max_bytes + 1 - len(raw))
    if len(raw) > max_bytes:
        raise LimitError(f"{path}: over {max_bytes >> 20:,} MB")
    return raw


def read_part(path: Path, start: int, size: int) -> bytes:
    """Read up to `size` bytes from `start`; a negative `start` counts from the end.

    Raises:
        NotFound, FileError, InputError: see `read_bytes`.
    """
    with _opened(path) as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(start if start >= 0 else max(0, length + start))
        return file.read(size)


@contextlib.contextmanager
def _opened(path: Path, hint: str = "") -> Iterator[BinaryIO]:
    """Open a file for reading; refuse devices, such as `/dev/zero`, which may never end."""
    try:
        with path.open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty():
                raise InputError(f"{path}: a device, expected a file")
            yield file
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file{hint and f'. {hint}'}") from error
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error
