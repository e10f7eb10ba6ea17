"""Bound the time and the memory that the checks of a module take, by what one row costs.

The bounds follow from counts of operations and bytes, never from time, so that every machine checks
the same rows and fits the prior to the same images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

MAX_WORK = 1e13  # floating-point operations per graph in float32: minutes on two cores
MAX_BYTES = 2 << 30  # of activations
MIN_ROWS = 4
# Bytes of activations per byte of the largest one. Several are alive at a time; in float64, torch
# unfolds the input of a 3×3 convolution to nine times its size.
_ALIVE = {torch.float32: 8, torch.float64: 24}


@dataclass(frozen=True)
class RowCost:
    """What a module costs per row.

    Attributes:
        operations: floating-point operations, two per multiplication and addition.
        largest: bytes of the largest activation in float32.
    """

    operations: float
    largest: int

    def rows(self, wanted: int, runs: int = 1) -> int:
        """Return how many of `wanted` rows MAX_WORK allows to run `runs` times, at least four."""
        allowed = MAX_WORK / (runs * max(self.operations, 1))
        return min(wanted, max(MIN_ROWS, int(min(allowed, wanted))))

    def line(self) -> str:
        """Describe the cost in words."""
        return f"one takes {self.operations / 1e9:,.0f} billion operations"

    def batch(self, wanted: int, dtype: torch.dtype = torch.float32) -> int:
        """Return how many of `wanted` rows MAX_BYTES allows per batch, at least one."""
        return max(1, min(wanted, MAX_BYTES // (_ALIVE[dtype] * max(self.largest, 1))))


@torch.no_grad()
def row_cost(module: nn.Module, *inputs: Tensor | None) -> RowCost:
    """Measure what a module costs per row, by running it on the first row of `inputs`."""
    row = [None if tensor is None else tensor[:1] for tensor in inputs]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its single operator counts as no operation
    try:
        with FlopCounterMode(display=False) as operations, _Largest() as activations:
            module(*row)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return RowCost(operations.get_total_flops(), activations.largest)


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the bytes of the largest tensor that an operator makes; views make none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {_storage(tensor) for tensor in _tensors(args)}
        made = [tensor for tensor in _tensors(found) if _storage(tensor) not in given]
        self.largest = max([self.largest, *(tensor.nbytes for tensor in made)])
        return found


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
