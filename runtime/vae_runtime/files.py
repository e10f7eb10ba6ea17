"""Writing that leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import FileError

_LONGEST = 200  # bytes of the target's name kept in the temporary one; file systems allow 255


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a temporary file beside `path`, flush it to disk, then rename it.

    Raises:
        FileError: the disk is full, the folder is missing or may not be written; a previous file
            is untouched.
    """
    with writing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block wrote there becomes `path` at its end.

    If the block raises, the temporary file is removed and a previous `path` is untouched. A link is
    followed. A device or a pipe is written as it is: renaming would put a file in its place.
    """
    temporary = None
    try:
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        kept = os.fsencode(target.name)[:_LONGEST].decode(errors="ignore")
        beside = target.with_name(f".{kept}.{os.urandom(6).hex()}.part")
        # Made here, with what the umask allows; never a name that is already there.
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        temporary = beside
        yield temporary
        _sync(temporary, os.O_RDWR)
        temporary.replace(target)
        if os.name == "posix":  # a folder cannot be opened elsewhere
            _sync(target.parent, os.O_RDONLY)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {_reason(error)}, a previous file was kept") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    return (error.strerror or str(error)).lower()


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
