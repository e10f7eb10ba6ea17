"""Joining the processes that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from vae_runtime.errors import UsageError

from .device import pick_device
from .ranks import Ranks


@contextmanager
def joined(device: str) -> Iterator[tuple[Ranks, str]]:
    """Meet the other processes, if `torchrun` started any.

    Args:
        device: what `--device` says.

    Yields:
        Which process this is, and its own device.

    Raises:
        UsageError: all processes were told to use one GPU.
        DeviceError: there are more processes than GPUs.
    """
    world = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if world == 1:
        yield Ranks(), device
        return
    if device.startswith("cuda:"):
        raise UsageError(f"device is {device!r} for {world} processes, expected auto, cuda or cpu")
    if device != "cpu" and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(pick_device(device))
    # The few numbers that are exchanged outside of the gradients lie on the CPU.
    with group("cuda:nccl,cpu:gloo" if device.startswith("cuda:") else "gloo"):
        yield Ranks(dist.get_rank(), world, world), device


@contextmanager
def group(backend: str, **options: Any) -> Iterator[None]:
    """A process group whose threads have ended when the block has.

    Threads of gloo that outlive it may drop a tensor while the interpreter shuts down, which
    aborts the process after its work is done.

    Args:
        backend: such as `"gloo"`.
        options: more of `torch.distributed.init_process_group`.
    """
    # DistributedDataParallel imports this, and what it imports takes the group of that moment for
    # default arguments: imported only then, it would keep the group, and its threads, for good.
    import torch.distributed.nn  # noqa: F401

    dist.init_process_group(backend, **options)
    try:
        yield
    finally:
        dist.destroy_process_group()
