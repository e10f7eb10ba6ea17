"""Where and how torch computes: device, precision, threads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vae_runtime.errors import DeviceError, UsageError

from .config import Precision

# What /proc/cpuinfo and torch call the instructions that multiply bfloat16 matrices.
_BF16 = ("amx_bf16", "avx512_bf16")


def pick_device(device: str) -> torch.device:
    """The torch device that a `--device` word means.

    Raises:
        UsageError: another word than `auto`, `cpu`, `cuda` or `cuda:N`.
        DeviceError: a CUDA device that is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device, re.ASCII):
        raise UsageError(f"device is {device!r}, expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return torch.device("cuda" if count else "cpu")
    if device != "cpu" and int(device[5:] or 0) >= count:
        raise DeviceError(
            f"device {device}: torch {torch.__version__} sees {count} CUDA devices. "
            "Use --device cpu, or install a torch built for CUDA."
        )
    return torch.device(device)


def pick_precision(precision: Precision, device: torch.device) -> Precision:
    """`auto` resolved: `bf16` where the device has the instructions, else `float32`."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = any(found.get(name, False) for name in _BF16)
    return "bf16" if native else "float32"


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads, and give a caller's own setting back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
