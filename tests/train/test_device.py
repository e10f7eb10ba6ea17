"""Memory: freed blocks are reused, and running out of memory is reported."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest
import torch

from vae_runtime.errors import LimitError
from vae_train.device import catch_out_of_memory

_FAULTS = """
import resource, sys
import numpy as np
from vae_train.device import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else False

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(40 << 17)  # 40 MB, above the largest threshold that glibc adapts to
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(kept, faults())
"""


def test_running_out_of_memory_is_a_limit_error() -> None:
    with (
        pytest.raises(LimitError, match=r"^out of memory\. Make --batch-size"),
        catch_out_of_memory(),
    ):
        torch.empty(1 << 50)
    with pytest.raises(LimitError), catch_out_of_memory():
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match=r"^shape$"), catch_out_of_memory():
        raise RuntimeError("shape")


def measured(mode: str) -> tuple[str, int]:
    run = subprocess.run(
        [sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True
    )
    kept, faults = run.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc"
)
def test_freed_large_blocks_are_reused() -> None:
    kept, faults = measured("keep")
    assert kept == "True"
    assert faults < 50
    assert measured("leave")[1] > 200  # even with 2 MB pages
