"""Temporary names beside a target: each locked while its writer lives, swept once it is dead.

A lock on a file ends with the process that holds it, however that ends; a process id in a name
would be somebody else's after a while, or in another container. Where there are no such locks
(Windows, some network drives) nothing is swept.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LONGEST = 200  # bytes of the target's name kept in the temporary one; file systems allow 255
_OURS = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)


@contextlib.contextmanager
def temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new path beside `target` that `make` made, a file or a folder; gone at the end.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(target.parent)
    path, lock = _claim(target, make)
    try:
        yield path
    finally:
        remove(path)
        if lock is not None:
            os.close(lock)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _claim(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """A path that is new and, where that works, locked."""
    kept = os.fsencode(target.name)[:_LONGEST].decode(errors="ignore")
    while True:
        path = target.with_name(f".{kept}.{os.urandom(6).hex()}.part")
        make(path)
        lock = None
        try:
            lock = _lock(path)
            # Before it was locked, another process may have taken it for a leftover.
            if fcntl is None or path.exists():
                return path, lock
        except BlockingIOError:
            continue
        except BaseException:
            remove(path)
            raise
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """The open handle whose closing ends the lock; None where there are no locks.

    Raises:
        BlockingIOError: another one has it.
    """
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if handle is not None:
            os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle


@functools.lru_cache(maxsize=256)
def _sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder; once a process, for listing takes its time."""
    if fcntl is None:
        return
    try:
        found = [entry.path for entry in os.scandir(folder) if _OURS.fullmatch(entry.name)]
    except OSError:
        return  # making the file will fail too, and say why
    for name in found:
        with contextlib.suppress(BlockingIOError):  # its writer lives
            lock = _lock(Path(name))
            if lock is not None:
                remove(Path(name))
                os.close(lock)
