"""Several processes that train one model: who holds which images, and means over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vae_runtime.errors import VaeError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """How the images of every step are shared out.

    The training images are cut into `shards` of one length, and each step takes as many from each.
    A process holds its own shards alone; one process that holds all of them computes the same.

    Attributes:
        rank, world: which process this is, of how many.
        shards: a multiple of `world`.
    """

    rank: int = 0
    world: int = 1
    shards: int = 1

    @property
    def held(self) -> int:
        """Shards that this process holds."""
        return self.shards // self.world

    def part(self, n: int) -> slice:
        """Which of `n` images this process holds; up to `shards` - 1 at the end are nobody's."""
        each = n // self.shards * self.held
        return slice(self.rank * each, (self.rank + 1) * each)

    def own(self, whole: Tensor) -> Tensor:
        """[K, shards, n, ...] → the rows of this process, [K, held·n, ...]."""
        own = whole if self.world == 1 else whole.narrow(1, self.rank * self.held, self.held)
        return own.flatten(1, 2)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes, the same bits in each; written into `values`."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def means(self, values: list[float]) -> list[float]:
        """The mean of each over all processes, the same bits in each."""
        if self.world == 1:
            return values
        found: list[float] = self.mean(torch.tensor(values)).tolist()
        return found

    def gradients(self, loss: Tensor, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """Of the mean of `loss` over all processes, through a module that `wrap` made."""
        if self.world == 1:
            return torch.autograd.grad(loss, weights)
        for weight in weights:
            weight.grad = None
        torch.autograd.backward(loss)  # DistributedDataParallel averages what it leaves in `grad`
        return [weight.grad for weight in weights if weight.grad is not None]

    def first(self, make: Callable[[], T]) -> T:
        """What the first process makes, in all of them; what it refuses, all of them refuse."""
        if self.world == 1:
            return make()
        box: list[Any] = [None]
        if self.rank == 0:
            try:
                box = [make()]
            except VaeError as error:
                box = [error]
        dist.broadcast_object_list(box)
        if isinstance(box[0], VaeError):
            raise box[0]
        made: T = box[0]
        return made

    def wrap(self, module: nn.Module) -> nn.Module:
        """Let `module` average its gradients over all processes."""
        return module if self.world == 1 else nn.parallel.DistributedDataParallel(module)
