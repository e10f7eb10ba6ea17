"""Gigabytes to a file while they are made: a second thread writes, past the system's page cache.

Each page of that cache has to be found and cleared before it is written to, which can cost more
than the numbers that go there; and it pushes out what other programs had in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import cycle
from mmap import mmap
from pathlib import Path

BLOCK = 4 << 20  # bytes of each of two: one is filled while the other is written


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Replace what `path` holds with the pieces, one after another. Not flushed to the disk.

    Raises:
        OSError: of the system, also for what the other thread wrote; the file is cut off there.
    """
    blocks = _blocks(pieces)
    with path.open("wb", buffering=0) as file:
        handle, block = file.fileno(), next(blocks)
        if len(block) == BLOCK:  # one picture needs no thread
            _bypass(handle, on=True)
            block = _write_full(handle, block, blocks)
            _bypass(handle, on=False)  # asks for whole sectors, which the rest is not
        _write(handle, block)


def _blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """The pieces as full blocks, then one that is not full; each stays while the next is filled."""
    blocks = cycle(memoryview(mmap(-1, BLOCK)) for _ in range(2))  # pages: the disk reads no less
    block, filled = next(blocks), 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            taken = min(len(piece) - start, BLOCK - filled)
            block[filled : filled + taken] = piece[start : start + taken]
            start, filled = start + taken, filled + taken
            if filled == BLOCK:
                yield block
                block, filled = next(blocks), 0
    yield block[:filled]


def _write_full(handle: int, block: memoryview, blocks: Iterator[memoryview]) -> memoryview:
    """Write `block` and the full ones behind it while the next are filled; return the last."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        while len(block) == BLOCK:
            writing = thread.submit(_write, handle, block)
            block = next(blocks)
            writing.result()
    return block


def _write(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _bypass(handle: int, *, on: bool) -> None:
    """Write to the disk itself from now on, or no longer, where the file and its system can."""
    if not hasattr(os, "O_DIRECT") or not stat.S_ISREG(os.fstat(handle).st_mode):
        return
    import fcntl

    flags = fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_DIRECT
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | (os.O_DIRECT if on else 0))
    except OSError:  # a file system in memory, for one
        return
