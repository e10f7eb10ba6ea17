"""The gate: a graph leaves only if it computes what torch computes.

Every output of onnxruntime is compared with torch in float64. The tolerance is what float32 itself
costs: four times the error of torch's own float32, and 1e-6 for rounding at the end. torch computes
each distinct row once, apart from any batch; so a graph whose rows depend on one another fails too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_runtime.errors import InputError, IntegrityError, one_line
from vae_runtime.inference.session import Session

from .graphs import Graph

BATCHES = (0, 1, 2, 7, 64, 1000)
FACTOR = 4.0
FLOOR = 1e-6
DECADES = (-18, 1)  # of the histogram: errors from 1e-18 to 10
_CHUNK = 256

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Worst:
    """Where one output of one graph is furthest from float64, measured against its tolerance.

    Attributes:
        graph, output: names.
        error: |onnxruntime - torch float64|.
        torch_error: the largest |torch float32 - torch float64| of that output, in any row.
        tolerance: what `error` may be.
        largest: the largest `error` of any batch, within its own tolerance or not.
        difference: the largest |onnxruntime - torch float32| of any batch.
        batch, index: where.
        value, expected: onnxruntime's and torch's float64.
    """

    graph: str
    output: str
    error: float
    torch_error: float
    tolerance: float
    largest: float
    difference: float
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


@dataclass(frozen=True)
class Truth:
    """What torch computes for the distinct rows of one graph.

    Attributes:
        rows: each input.
        single, double: each output, in float32 and in float64, row by row as `rows`.
    """

    rows: Arrays
    single: Arrays
    double: Arrays


@dataclass(frozen=True)
class Checked:
    """What the gate found of one graph that passed.

    Attributes:
        worst: for each output.
        histogram: for each output, how many elements have an error in each quarter of a decade
            from 10**DECADES[0]; smaller ones, 0 among them, are in the first.
    """

    worst: tuple[Worst, ...]
    histogram: dict[str, NDArray[np.int64]]


def torch_truth(graph: Graph, rows: Arrays) -> Truth:
    """Run the module on `rows` in float32 and in float64.

    Raises:
        InputError: it cannot compute in float64, or gives something that is not finite.
    """
    single = _torch(graph.module, graph, rows, torch.float32)
    try:
        double = _torch(copy.deepcopy(graph.module).double(), graph, rows, torch.float64)
    except RuntimeError as error:
        raise InputError(
            f"{graph.role}: the module cannot run in float64, which the parity gate needs: "
            f"{one_line(str(error).splitlines()[0])}. Take fixed float32 casts out of it."
        ) from error
    for name in graph.outputs:
        if not np.isfinite(double[name]).all():
            where = np.argwhere(~np.isfinite(double[name]))[0].tolist()
            raise InputError(
                f"{graph.role}.{name}: torch itself gives {double[name][tuple(where)]} at {where} "
                "of the gate's rows. Train or clamp the module until its outputs are finite."
            )
    return Truth(rows, single, double)


def check_parity(graph: Graph, model: bytes, truth: Truth) -> Checked:
    """Compare one exported graph with its torch module in every batch of BATCHES.

    Raises:
        IntegrityError: an output beyond the tolerance, not finite, or of another shape or dtype;
            with the case that is furthest beyond.
    """
    worst: dict[str, Worst] = {}
    bins = (DECADES[1] - DECADES[0]) * 4
    histogram = {name: np.zeros(bins, np.int64) for name in graph.outputs}
    for batch, index, found in run_batches(graph, model, truth.rows):
        for name, ours in zip(graph.outputs, found, strict=True):
            single, double = truth.single[name][index], truth.double[name][index]
            _check_form(f"{graph.role}.{name}", ours, double.shape, batch)
            if not ours.size:
                continue
            error = np.abs(ours - double)
            histogram[name] += _histogram(error, bins)
            own = float(np.abs(truth.single[name] - truth.double[name]).max())
            case = _worst(graph.role, name, batch, ours, single, double, error, own)
            worst[name] = _worse(worst.get(name), case)
    failed = [case for case in worst.values() if case.error > case.tolerance]
    if failed:
        raise IntegrityError(max(failed, key=lambda case: case.error / case.tolerance).line())
    return Checked(tuple(worst.values()), histogram)


def run_batches(
    graph: Graph, model: bytes, rows: Arrays
) -> Iterator[tuple[int, NDArray[np.intp], list[NDArray[Any]]]]:
    """Run a graph in each of BATCHES, rows repeated or cut to length.

    Yields:
        The batch size, the index of the rows in it, and the outputs.
    """
    count = len(next(iter(rows.values())))
    with Session(model, device="cpu") as session:
        # All rows in one more batch, where there are more of them than the largest holds.
        for batch in (*BATCHES, count)[: len(BATCHES) + (count > BATCHES[-1])]:
            index = np.arange(batch) % count
            inputs = {name: np.ascontiguousarray(rows[name][index]) for name in graph.inputs}
            yield batch, index, session.run(graph.outputs, **inputs)


def summary(checked: list[Checked]) -> dict[str, Any]:
    """What the manifest says of parity."""
    worst = [case for each in checked for case in each.worst]
    return {
        "tolerance": "|onnxruntime - torch float64| <= "
        f"{FACTOR:g} * |torch float32 - torch float64| + {FLOOR:g}",
        "batches": list(BATCHES),
        "max_abs_error": {f"{w.graph}.{w.output}": float(f"{w.largest:.3g}") for w in worst},
        "max_abs_difference_from_torch_float32": {
            f"{w.graph}.{w.output}": float(f"{w.difference:.3g}") for w in worst
        },
    }


def as_dict(checked: Checked) -> dict[str, Any]:
    """Plain values, for a report."""
    return {
        "worst": [asdict(case) for case in checked.worst],
        "histogram": {name: counts.tolist() for name, counts in checked.histogram.items()},
    }


@torch.no_grad()
def _torch(module: nn.Module, graph: Graph, rows: Arrays, dtype: torch.dtype) -> Arrays:
    """Each output for all rows, computed a few at a time."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in graph.outputs}
    count = len(rows[graph.inputs[0]])
    for start in range(0, count, _CHUNK):
        tensors = [torch.from_numpy(rows[n][start : start + _CHUNK]) for n in graph.inputs]
        tensors = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
        found: Tensor | tuple[Tensor, ...] = module(*tensors)
        outputs = found if isinstance(found, tuple) else (found,)
        for name, tensor in zip(graph.outputs, outputs, strict=True):
            parts[name].append(tensor.numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _check_form(name: str, ours: NDArray[Any], shape: tuple[int, ...], batch: int) -> None:
    if ours.shape != shape or ours.dtype != np.float32:
        raise IntegrityError(
            f"{name}: {ours.dtype}{list(ours.shape)} in a batch of {batch}, expected "
            f"float32{list(shape)}"
        )
    if not np.isfinite(ours).all():
        where = np.argwhere(~np.isfinite(ours))[0].tolist()
        raise IntegrityError(
            f"{name}: {ours[tuple(where)]} in a batch of {batch} at {where}, expected finite"
        )


def _worst(
    role: str,
    name: str,
    batch: int,
    ours: NDArray[Any],
    single: NDArray[np.float32],
    double: NDArray[np.float64],
    error: NDArray[np.float64],
    own: float,
) -> Worst:
    """The worst element of one output in one batch."""
    index = np.unravel_index(int(error.argmax()), error.shape)
    return Worst(
        role,
        name,
        float(error[index]),
        own,
        FACTOR * own + FLOOR,
        float(error[index]),
        float(np.abs(ours - single).max()),
        batch,
        tuple(int(i) for i in index),
        float(ours[index]),
        float(double[index]),
    )


def _worse(a: Worst | None, b: Worst) -> Worst:
    """The case nearer to, or further beyond, its tolerance; with the larger extremes of both."""
    if a is None:
        return b
    return replace(
        max(a, b, key=lambda w: w.error / w.tolerance),
        largest=max(a.largest, b.largest),
        difference=max(a.difference, b.difference),
    )


def _histogram(error: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    lowest = 10.0 ** DECADES[0]
    place = np.floor((np.log10(np.maximum(error, lowest)) - DECADES[0]) * 4).astype(np.int64)
    return np.bincount(np.clip(place, 0, bins - 1).ravel(), minlength=bins)
