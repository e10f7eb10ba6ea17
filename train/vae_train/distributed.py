"""Train in several processes, started by torchrun, among which the images are divided."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vae_runtime.errors import UsageError, VaeError

from .device import pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes that train one model together, and how they divide the images.

    The training images are split into `shards` parts of equal length, and every step takes the same
    number of images from each shard. A process holds only its own shards; a single process that
    holds all shards computes the same result.

    Attributes:
        rank: the index of this process.
        world_size: the number of processes.
        shards: the number of shards, a multiple of `world_size`.
    """

    rank: int = 0
    world_size: int = 1
    shards: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes files and messages."""
        return self.rank == 0

    @property
    def held_shards(self) -> int:
        """The number of shards that this process holds."""
        return self.shards // self.world_size

    def own_slice(self, n: int) -> slice:
        """Return, as a slice, which of `n` images this process holds.

        Up to `shards` - 1 images at the end are omitted, so that all shards have equal length.
        """
        held = n // self.shards * self.held_shards
        return slice(self.rank * held, (self.rank + 1) * held)

    def own_rows(self, whole: Tensor) -> Tensor:
        """Select the rows of this process: [K, shards, n, ...] → [K, held_shards·n, ...]."""
        if self.world_size > 1:
            whole = whole.narrow(1, self.rank * self.held_shards, self.held_shards)
        return whole.flatten(1, 2)

    def mean_(self, values: Tensor) -> Tensor:
        """Average `values` in place over all processes; each gets exactly the same result."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def means(self, values: list[float]) -> list[float]:
        """Average each number over all processes; each gets exactly the same result."""
        if self.world_size == 1:
            return values
        averaged: list[float] = self.mean_(torch.tensor(values)).tolist()
        return averaged

    def gradients(self, loss: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """Compute the gradients of the mean of `loss` over all processes.

        With several processes, `loss` must come from a module that `wrap` returned.
        """
        if self.world_size == 1:
            return torch.autograd.grad(loss, weights)
        for weight in weights:
            weight.grad = None
        torch.autograd.backward(loss)  # DistributedDataParallel averages the `grad` of each weight
        return [weight.grad for weight in weights if weight.grad is not None]

    def run_on_first(self, function: Callable[[], T]) -> T:
        """Call `function` in the first process; all return its result or raise its error."""
        if self.world_size == 1:
            return function()
        box: list[Any] = [None]
        if self.is_first:
            try:
                box = [function()]
            except VaeError as error:
                box = [error]
        dist.broadcast_object_list(box)
        if isinstance(box[0], VaeError):
            raise box[0]
        result: T = box[0]
        return result

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap `module` so that its gradients are averaged over all processes."""
        return module if self.world_size == 1 else nn.parallel.DistributedDataParallel(module)


@contextmanager
def join_processes(device: str) -> Iterator[tuple[ProcessGroup, str]]:
    """Join the process group if torchrun started this process.

    Args:
        device: the value of `--device`.

    Yields:
        The group, and the device of this process.

    Raises:
        UsageError: `device` names a single GPU, but there are several processes.
        DeviceError: there are more processes than GPUs.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1")) if dist.is_torchelastic_launched() else 1
    if world_size == 1:
        yield ProcessGroup(), device
        return
    if device.startswith("cuda:"):
        raise UsageError(
            f"device is {device!r} for {world_size} processes, expected auto, cuda or cpu"
        )
    if device != "cpu" and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(pick_device(device))
    # gloo exchanges the few numbers that are not gradients; they are in CPU memory.
    with process_group("cuda:nccl,cpu:gloo" if device.startswith("cuda:") else "gloo"):
        yield ProcessGroup(dist.get_rank(), world_size, world_size), device


@contextmanager
def process_group(backend: str, **options: Any) -> Iterator[None]:
    """Initialize torch's process group for the `with` block, and end its threads afterwards.

    If a gloo thread is still alive when the interpreter shuts down, it may release a tensor. That
    aborts the process, even though its work is done.

    Args:
        backend: name of the backend, for example `"gloo"`.
        options: further arguments of `torch.distributed.init_process_group`.
    """
    # DistributedDataParallel imports this module, whose functions have the current group as a
    # default argument. If first imported inside the block, it would keep the group's threads alive.
    import torch.distributed.nn  # noqa: F401

    dist.init_process_group(backend, **options)
    try:
        yield
    finally:
        dist.destroy_process_group()
