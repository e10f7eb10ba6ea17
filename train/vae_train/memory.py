"""Memory that training lets go of and asks for again at every step, and what is said without."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vae_runtime.errors import LimitError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_memory() -> bool:
    """Have this process keep the memory that it frees, where its C library is glibc.

    glibc maps each large block anew and gives it back when it is freed, and the kernel clears every
    page of it at first touch. A training step makes and frees the same large tensors each time:
    kept, a step of the default CVAE takes a tenth less. The process stays as large as it once was.

    Returns:
        Whether the C library took both settings.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # others have no such function
    if mallopt is None:
        return False
    settings = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_MAX, 0))
    return all(mallopt(name, value) for name, value in settings)


@contextmanager
def memory_errors() -> Iterator[None]:
    """What torch raises where no memory is left, as an error of the user's.

    Raises:
        LimitError: what to make smaller.
    """
    try:
        yield
    except RuntimeError as error:
        # On a CPU it has no class of its own.
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise LimitError(
                "out of memory. Make --batch-size, --hidden or --importance-samples smaller."
            ) from error
        raise
