"""The gate: a graph leaves only if it computes what torch computes.

Every output of onnxruntime is compared with torch in float64. The tolerance is what float32 itself
costs: four times the error of torch's own float32, and 1e-6 for rounding at the end.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_runtime.errors import IntegrityError
from vae_runtime.session import Session

from .graphs import Graph

BATCHES = (0, 1, 2, 7, 64, 1000)
FACTOR = 4.0
FLOOR = 1e-6
ABSOLUTE = 1e-5  # no output in [0, 1], and no code of usual size, may be further off than this

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Worst:
    """Where one output of one graph is furthest from float64."""

    graph: str
    output: str
    error: float
    torch_error: float
    tolerance: float
    batch: int
    index: tuple[int, ...]
    value: float
    expected: float

    def line(self) -> str:
        """In words."""
        return (
            f"{self.graph}.{self.output}: error {self.error:.3g} over tolerance "
            f"{self.tolerance:.3g} in a batch of {self.batch} at {list(self.index)}: onnxruntime "
            f"{self.value!r}, torch float64 {self.expected!r}"
        )


def check_parity(graph: Graph, model: bytes, inputs: Arrays) -> list[Worst]:
    """Compare one exported graph with its torch module.

    Args:
        graph: the module and its names.
        model: the bytes that were exported.
        inputs: rows to run, the same number for each input; run whole and in each of BATCHES,
            repeated or cut to length.

    Returns:
        The worst case of each output.

    Raises:
        IntegrityError: an output beyond the tolerance, not finite, or of another shape or dtype.
    """
    double = copy.deepcopy(graph.module).double()
    worst: dict[str, Worst] = {}
    with Session(model, device="cpu") as session:
        for batch in BATCHES:
            rows = {name: _rows(values, batch) for name, values in inputs.items()}
            found = session.run(graph.outputs, **rows)
            single = _torch(graph.module, graph, rows, torch.float32)
            exact = _torch(double, graph, rows, torch.float64)
            for name, ours, theirs, truth in zip(graph.outputs, found, single, exact, strict=True):
                case = _compare(graph.role, name, batch, ours, theirs, truth)
                if case and (name not in worst or case.error > worst[name].error):
                    worst[name] = case
    return list(worst.values())


def summary(worst: list[Worst]) -> dict[str, Any]:
    """What the manifest says of parity."""
    return {
        "tolerance": f"|onnxruntime - torch float64| <= {FACTOR:g} * |torch float32 - torch float64| "
        f"+ {FLOOR:g}",
        "batches": list(BATCHES),
        "max_abs_error": {f"{w.graph}.{w.output}": float(f"{w.error:.3g}") for w in worst},
    }


def as_dicts(worst: list[Worst]) -> list[dict[str, Any]]:
    """Plain values, for a report."""
    return [asdict(w) for w in worst]


def _rows(values: NDArray[Any], n: int) -> NDArray[Any]:
    return np.resize(values, (n, *values.shape[1:])) if n else values[:0]


@torch.no_grad()
def _torch(module: nn.Module, graph: Graph, rows: Arrays, dtype: torch.dtype) -> list[Any]:
    tensors = [torch.from_numpy(rows[name]) for name in graph.inputs]
    tensors = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
    found: Tensor | tuple[Tensor, ...] = module(*tensors)
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def _compare(
    role: str,
    name: str,
    batch: int,
    ours: NDArray[Any],
    theirs: NDArray[np.float32],
    truth: NDArray[np.float64],
) -> Worst | None:
    """The worst element of one output; None for an empty batch."""
    if ours.shape != truth.shape or ours.dtype != np.float32:
        raise IntegrityError(
            f"{role}.{name}: {ours.dtype}{list(ours.shape)} in a batch of {batch}, expected "
            f"float32{list(truth.shape)}"
        )
    if not ours.size:
        return None
    if not np.isfinite(ours).all():
        where = np.argwhere(~np.isfinite(ours))[0].tolist()
        raise IntegrityError(f"{role}.{name}: not finite in a batch of {batch} at {where}")
    error = np.abs(ours - truth)
    own = float(np.abs(theirs - truth).max())
    index = np.unravel_index(int(error.argmax()), error.shape)
    case = Worst(
        role,
        name,
        float(error[index]),
        own,
        FACTOR * own + FLOOR,
        batch,
        tuple(int(i) for i in index),
        float(ours[index]),
        float(truth[index]),
    )
    if case.error > case.tolerance:
        raise IntegrityError(case.line())
    return case
