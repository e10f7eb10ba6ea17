"""Two folders change places in one step, so that a reader never finds neither."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_HERE = -100  # AT_FDCWD: paths are relative to the current folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def exchange(new: Path, old: Path) -> None:
    """Swap two paths of one file system.

    In one step on Linux and macOS, where the file system can do it. Elsewhere in three renames: a
    process that is killed between them leaves the old folder beside its place, its name ending in
    `.old`.

    Raises:
        OSError: nothing was changed.
    """
    if _at_once(new, old):
        return
    aside = old.with_name(f".{old.name}.{os.urandom(6).hex()}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def _at_once(new: Path, old: Path) -> bool:
    a, b = os.fsencode(new), os.fsencode(old)
    try:
        if sys.platform == "linux":
            failed = ctypes.CDLL(None).renameat2(_HERE, a, _HERE, b, ctypes.c_uint(_EXCHANGE))
        elif sys.platform == "darwin":
            failed = ctypes.CDLL(None).renamex_np(a, b, ctypes.c_uint(_EXCHANGE))
        else:
            return False
    except (OSError, AttributeError):  # a C library without it
        return False
    return not failed
