"""The parity check: a graph is written only if it computes what torch computes.

Every output of onnxruntime is compared with torch in float64. The tolerance reflects the error of
float32 itself: four times the error of torch in float32, plus 1e-6 for the final rounding. torch
computes each distinct row once, while onnxruntime computes it in batches of several sizes. A graph
whose rows influence each other therefore fails.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_runtime.errors import InputError, IntegrityError, one_line
from vae_runtime.inference.session import Session
from vae_runtime.prior import Prior

from .graphs import Graph

BATCHES = (0, 1, 2, 7, 64, 1000)
FACTOR = 4.0
FLOOR = 1e-6
DECADES = (-18, 1)  # range of the histogram: errors from 1e-18 to 10
BINS_PER_DECADE = 4
EXTREMES = (0.0, 6.0, -6.0)  # standard deviations
MAX_IMAGES = 256  # enough to find the worst case; convolutions in float64 are slow
_MAX_LABELS = 4096
_MAX_AXES = 64  # maximum number of latent dimensions to set to ±6 sigma, one at a time
_GOLDEN_ROWS = 64  # maximum number of rows per graph
_BATCH = 256

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class WorstCase:
    """The element of one output whose error is largest relative to its tolerance.

    Attributes:
        graph, output: names of the graph and the output.
        error: |onnxruntime - torch float64|.
        torch_error: the largest |torch float32 - torch float64| in any row of this output.
        tolerance: the largest `error` that passes.
        largest: the largest `error` in any batch.
        difference: the largest |onnxruntime - torch float32| in any batch.
        batch, index: the batch size, and the position of the element in the output.
        value, expected: value of the element in onnxruntime and in torch float64.
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
        """Describe a failure in one line."""
        return (
            f"{self.graph}.{self.output}: error {self.error:.3g} over tolerance "
            f"{self.tolerance:.3g} in a batch of {self.batch} at {list(self.index)}: onnxruntime "
            f"{self.value!r}, torch float64 {self.expected!r}"
        )


@dataclass(frozen=True)
class Reference:
    """torch's outputs for the distinct input rows of one graph.

    Attributes:
        rows: the values of each input, by name.
        single, double: each output in float32 and in float64, one row for each of `rows`.
    """

    rows: Arrays
    single: Arrays
    double: Arrays


@dataclass(frozen=True)
class ParityResult:
    """Measurements of the parity check for one graph that passed.

    Attributes:
        worst: the worst case of each output.
        histogram: for each output, the number of elements with an error in each quarter-decade bin,
            starting at 10**DECADES[0]; the first bin also counts all smaller errors.
    """

    worst: tuple[WorstCase, ...]
    histogram: dict[str, NDArray[np.int64]]

    def line(self) -> str:
        """Describe the result in one line."""
        case = max(self.worst, key=lambda w: w.error / w.tolerance)
        allowed = f"allowed {case.tolerance:.1e}"
        return f"{case.graph}: matches torch, max error {case.error:.1e} ({allowed})"


def parity_inputs(
    graph: Graph,
    images: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    prior: Prior,
    classes: int,
) -> Arrays:
    """Choose the input rows for the parity check of one graph, extreme rows first.

    An encoder gets real images and every label. A decoder gets latents at 0 and ±6 sigma with every
    label, single dimensions at ±6 sigma, and samples from the prior.

    Args:
        graph: the graph to check.
        images: real images, f32[N, C, H, W] in [0, 1], N ≥ 1.
        labels: labels of the images, i64[N]; None if there are none.
        prior: the distribution of the latents.
        classes: K; label K, which means "no label", is also checked.
    """
    labelled = "label" in graph.inputs
    # 0 to K, or an evenly spaced subset of them.
    every_label = np.linspace(0, classes, min(classes + 1, _MAX_LABELS)).astype(np.int64)
    if graph.inputs[0] == "image":
        images = images[:MAX_IMAGES]
        if not labelled:
            return {"image": images}
        swept = np.resize(images, (len(every_label), *images.shape[1:]))
        if labels is None:
            return {"image": swept, "label": every_label}
        own = labels[: len(images)].astype(np.int64)
        return {
            "image": np.concatenate([swept, images]),
            "label": np.concatenate([every_label, own]),
        }
    corners, axes = _extreme_latents(prior)
    z, label = sample_inputs(prior, classes, MAX_IMAGES // 4)
    if not labelled:
        return {"z": np.concatenate([corners, axes, z])}
    swept = np.repeat(corners, len(every_label), 0)
    swept_labels = [np.tile(every_label, len(corners)), np.resize(every_label, len(axes))]
    return {
        "z": np.concatenate([swept, axes, z]),
        "label": np.concatenate([*swept_labels, label]),
    }


def _extreme_latents(prior: Prior) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return latents at 0 and ±6 sigma, f32[3, D], and single dimensions at ±6, f32[≤128, D]."""
    mean, std = prior.spread()
    corners = [np.full(prior.latent_dim, n) * std + (mean if n else 0) for n in EXTREMES]
    steps = 6 * np.eye(min(_MAX_AXES, prior.latent_dim), prior.latent_dim) * std
    axes = np.concatenate([mean + steps, mean - steps])
    return np.stack(corners).astype(np.float32), axes.astype(np.float32)


def sample_inputs(
    prior: Prior, classes: int, n: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Sample latents f32[n, D] from the prior, with labels i64[n] that cycle through 0 to K."""
    label = np.arange(n, dtype=np.int64) % (classes + 1)
    return prior.sample(n, label if prior.kind == "class_gmm" else None, seed), label


def run_reference(graph: Graph, rows: Arrays) -> Reference:
    """Run the torch module on `rows` in float32 and in float64.

    Raises:
        InputError: the module cannot run in float64, or an output is not finite.
    """
    single = _run_torch(graph.module, graph, rows, torch.float32)
    try:
        double = _run_torch(copy.deepcopy(graph.module).double(), graph, rows, torch.float64)
    except RuntimeError as error:
        raise InputError(
            f"{graph.role}: the module cannot run in float64, which the parity check needs: "
            f"{one_line(str(error).splitlines()[0])}. Remove fixed casts to float32."
        ) from error
    for name in graph.outputs:
        if not np.isfinite(double[name]).all():
            where = np.argwhere(~np.isfinite(double[name]))[0].tolist()
            raise InputError(
                f"{graph.role}.{name}: torch returns {double[name][tuple(where)]} at {where}, "
                "expected finite outputs. Train or clamp the module."
            )
    return Reference(rows, single, double)


@torch.no_grad()
def _run_torch(module: nn.Module, graph: Graph, rows: Arrays, dtype: torch.dtype) -> Arrays:
    """Run all rows in batches and return each output."""
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in graph.outputs}
    count = len(rows[graph.inputs[0]])
    for start in range(0, count, _BATCH):
        tensors = [torch.from_numpy(rows[n][start : start + _BATCH]) for n in graph.inputs]
        tensors = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
        found: Tensor | tuple[Tensor, ...] = module(*tensors)
        outputs = found if isinstance(found, tuple) else (found,)
        for name, tensor in zip(graph.outputs, outputs, strict=True):
            parts[name].append(tensor.numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def check_parity(graph: Graph, model: bytes, reference: Reference) -> ParityResult:
    """Compare the outputs of one graph with those of torch at every batch size in BATCHES.

    Raises:
        IntegrityError: an output exceeds its tolerance, is not finite, or has the wrong shape or
            dtype. The message describes the element that exceeds its tolerance the most.
    """
    worst: dict[str, WorstCase] = {}
    bins = (DECADES[1] - DECADES[0]) * BINS_PER_DECADE
    histogram = {name: np.zeros(bins, np.int64) for name in graph.outputs}
    for batch, index, outputs in run_batches(graph, model, reference.rows):
        for name, ours in zip(graph.outputs, outputs, strict=True):
            single, double = reference.single[name], reference.double[name]
            check_output(f"{graph.role}.{name}", ours, "float32", double[index].shape)
            if not ours.size:
                continue
            error = np.abs(ours - double[index])
            exponent = np.log10(np.maximum(error, 10.0 ** DECADES[0]))
            histogram[name] += np.histogram(np.clip(exponent, *DECADES), bins, DECADES)[0]
            where = np.unravel_index(int(error.argmax()), error.shape)
            torch_error = float(np.abs(single - double).max())
            case = WorstCase(
                graph.role,
                name,
                error=float(error[where]),
                torch_error=torch_error,
                tolerance=FACTOR * torch_error + FLOOR,
                largest=float(error[where]),
                difference=float(np.abs(ours - single[index]).max()),
                batch=batch,
                index=tuple(int(i) for i in where),
                value=float(ours[where]),
                expected=float(double[index][where]),
            )
            worst[name] = _worse(worst.get(name), case)
    failed = [case for case in worst.values() if case.error > case.tolerance]
    if failed:
        raise IntegrityError(max(failed, key=lambda case: case.error / case.tolerance).line())
    return ParityResult(tuple(worst.values()), histogram)


def run_batches(
    graph: Graph, model: bytes, rows: Arrays
) -> Iterator[tuple[int, NDArray[np.intp], list[NDArray[Any]]]]:
    """Run a graph at each batch size in BATCHES, repeating or dropping rows to fill the batch.

    Yields:
        The batch size, the index of each row in `rows`, and the outputs.
    """
    count = len(next(iter(rows.values())))
    # If the largest batch does not hold all rows, run one more batch that does.
    sizes = (*BATCHES, count) if count > BATCHES[-1] else BATCHES
    with Session(model, device="cpu") as session:
        for batch in sizes:
            index = np.arange(batch) % count
            inputs = {name: np.ascontiguousarray(rows[name][index]) for name in graph.inputs}
            yield batch, index, session.run(graph.outputs, **inputs)


def check_output(name: str, values: NDArray[Any], dtype: str, shape: tuple[int | str, ...]) -> None:
    """Check one output of a batch.

    Raises:
        IntegrityError: the output has the wrong dtype or shape (including the batch size), or is
            not finite.
    """
    if values.shape != shape or values.dtype != dtype:
        raise IntegrityError(
            f"{name}: {values.dtype}{list(values.shape)}, expected {dtype}{list(shape)}"
        )
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0].tolist()
        raise IntegrityError(
            f"{name}: {values[tuple(where)]} in a batch of {shape[0]} at {where}, expected finite"
        )


def _worse(a: WorstCase | None, b: WorstCase) -> WorstCase:
    """Return the case that is closer to failing, with each maximum taken over both cases."""
    if a is None:
        return b
    return replace(
        max(a, b, key=lambda w: w.error / w.tolerance),
        largest=max(a.largest, b.largest),
        difference=max(a.difference, b.difference),
    )


def parity_summary(results: list[ParityResult]) -> dict[str, Any]:
    """Summarise the results as the manifest's `parity` entry."""
    worst = [case for result in results for case in result.worst]
    return {
        "tolerance": "|onnxruntime - torch float64| <= "
        f"{FACTOR:g} * |torch float32 - torch float64| + {FLOOR:g}",
        "batches": list(BATCHES),
        "max_abs_error": {f"{w.graph}.{w.output}": float(f"{w.largest:.3g}") for w in worst},
        "max_abs_difference_from_torch_float32": {
            f"{w.graph}.{w.output}": float(f"{w.difference:.3g}") for w in worst
        },
    }


def golden_vectors(references: dict[str, Reference]) -> bytes:
    """Pack the inputs and torch's float32 outputs, to verify parity without torch.

    Returns:
        An uncompressed `.npz` with `ROLE.in.NAME` and `ROLE.out.NAME` for each tensor of each
        graph. The bytes depend only on the values.
    """
    arrays: Arrays = {}
    for role, reference in references.items():
        count = len(next(iter(reference.rows.values())))
        index = np.linspace(0, count - 1, min(_GOLDEN_ROWS, count)).astype(int)
        for kind, tensors in (("in", reference.rows), ("out", reference.single)):
            for name, values in tensors.items():
                arrays[f"{role}.{kind}.{name}"] = np.ascontiguousarray(values[index])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
