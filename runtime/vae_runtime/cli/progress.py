"""A line that counts up on a terminal, while work takes long; silence everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
_PATIENCE_S = 1.0
_EVERY_S = 0.1


def counted(chunks: Iterable[T], total: int, each: int, what: str = "images") -> Iterator[T]:
    """Pass `chunks` of `each` items through; say how far it is once a second has passed.

    Args:
        chunks: the work.
        total: items in all.
        each: items in a chunk.
        what: the items' name.
    """
    if not sys.stderr.isatty():
        yield from chunks
        return
    started = last = time.monotonic()
    shown = False
    try:
        for i, chunk in enumerate(chunks):
            yield chunk
            now = time.monotonic()
            if now - started > _PATIENCE_S and now - last > _EVERY_S:
                done = min(total, (i + 1) * each)
                rate = done / (now - started)
                sys.stderr.write(f"\r{done:,} of {total:,} {what}, {rate:,.0f}/s\x1b[K")
                sys.stderr.flush()
                last, shown = now, True
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
