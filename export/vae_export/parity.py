"""The parity check: a graph is written only if it computes what torch computes.

Every output of onnxruntime is compared with torch in float64, and its error with the rounding error
that torch itself makes in float32, in the worst of several orders of summation. The largest error
shows a mistake in a single element. The typical error shows a small mistake everywhere, such as a
wrong epsilon, which no single element gives away.

torch computes each distinct row once, while onnxruntime computes it in batches of several sizes. A
graph whose rows influence each other therefore fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.errors import IntegrityError
from vae_runtime.inference.session import Session
from vae_runtime.prior import Prior

from .graphs import Graph
from .options import Track, untracked
from .reference import Arrays, Reference, row_rms

BATCHES = (0, 1, 2, 7, 64, 1000)
# Allowed errors, relative to those of torch in float32. docs/parity-results.md has the figures.
FACTOR = 4.0
TYPICAL = 3.0
FLOOR = 1e-6  # added to the largest error
RUNS = 10  # about how often each row is run: in float64, which is slower, and in each batch
DECADES = (-18, 1)  # range of the histogram: errors from 1e-18 to 10
BINS_PER_DECADE = 4
EXTREMES = (0.0, 6.0, -6.0)  # standard deviations
MAX_IMAGES = 256  # enough to find the worst case; convolutions in float64 are slow
_MAX_LABELS = 4096
_MAX_AXES = 64  # maximum number of latent dimensions to set to ±6 sigma, one at a time


@dataclass(frozen=True)
class WorstCase:
    """The element of one output with the largest error, and the typical error of the output.

    Attributes:
        graph, output: names of the graph and the output.
        error: |onnxruntime - torch float64|, the largest in any batch.
        torch_error: the largest |torch float32 - torch float64| in any order of summation.
        tolerance: the largest `error` that passes.
        typical: the typical error of onnxruntime divided by that of torch in float32.
        typical_tolerance: the largest `typical` that passes.
        difference: the largest |onnxruntime - torch float32| in any batch.
        batch, index: the batch size, and the position of the element in the output.
        value, expected: value of the element in onnxruntime and in torch float64.
    """

    graph: str
    output: str
    error: float
    torch_error: float
    tolerance: float
    typical: float
    typical_tolerance: float
    difference: float
    batch: int
    index: tuple[int, ...]
    value: float
    expected: float

    @property
    def ratio(self) -> float:
        """The larger of the two errors, relative to its tolerance; above 1, the check fails."""
        return max(self.error / self.tolerance, self.typical / self.typical_tolerance)

    def line(self) -> str:
        """Describe a failure in one line."""
        name = f"{self.graph}.{self.output}"
        if self.error > self.tolerance:
            return (
                f"{name}: error {self.error:.3g} over tolerance {self.tolerance:.3g} in a batch of "
                f"{self.batch} at {list(self.index)}: onnxruntime {self.value!r}, torch float64 "
                f"{self.expected!r}"
            )
        return (
            f"{name}: the typical error is {self.typical:.3g} times that of torch in float32, "
            f"expected at most {self.typical_tolerance:.3g}, so the graph computes something else. "
            "If you accept that, raise --tolerance."
        )


@dataclass(frozen=True)
class ParityResult:
    """Measurements of the parity check for one graph.

    Attributes:
        worst: the worst case of each output.
        histogram: for each output, the number of elements with an error in each quarter-decade bin,
            starting at 10**DECADES[0]; the first bin also counts all smaller errors.
        rows: the number of distinct rows.
        batches: the sizes of the batches.
    """

    worst: tuple[WorstCase, ...]
    histogram: dict[str, NDArray[np.int64]]
    rows: int
    batches: tuple[int, ...]

    def line(self) -> str:
        """Describe the result in one line."""
        case = max(self.worst, key=lambda w: w.ratio)
        return (
            f"{case.graph}: matches torch, max error {case.error:.1e} (allowed "
            f"{case.tolerance:.1e}), typically {case.typical:.2f} times torch's (allowed "
            f"{case.typical_tolerance:.3g})"
        )


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
    swept = np.tile(corners, (len(every_label), 1))
    swept_labels = [np.repeat(every_label, len(corners)), np.resize(every_label, len(axes))]
    return {
        "z": np.concatenate([swept, axes, z]),
        "label": np.concatenate([*swept_labels, label]),
    }


def thin(rows: Arrays, limit: int) -> Arrays:
    """Keep at most `limit` rows: the first three, which are extreme, and some at even distances."""
    count, first = len(next(iter(rows.values()))), len(EXTREMES)
    if count <= limit:
        return rows
    others = np.linspace(count - 1, first, limit - first, endpoint=False).astype(int)
    kept = np.unique([*range(first), *others])
    return {name: values[kept] for name, values in rows.items()}


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


def check_parity(
    graph: Graph, model: bytes, reference: Reference, factor: float = 1.0, track: Track = untracked
) -> ParityResult:
    """Check that the outputs of one graph are those of torch; return what was measured.

    Args:
        graph: the graph.
        model: its `.onnx` file.
        reference: what torch computes.
        factor: multiplies both tolerances.
        track: called with the batches, to show progress.

    Raises:
        IntegrityError: an output exceeds a tolerance, is not finite, or has the wrong shape or
            dtype. The message describes the output that exceeds its tolerance the most.
    """
    result = measure_parity(graph, model, reference, factor, track)
    case = max(result.worst, key=lambda w: w.ratio)
    if case.ratio > 1:
        raise IntegrityError(case.line())
    return result


def measure_parity(
    graph: Graph, model: bytes, reference: Reference, factor: float = 1.0, track: Track = untracked
) -> ParityResult:
    """Compare the outputs of one graph with those of torch, in batches of several sizes.

    Raises:
        IntegrityError: an output is not finite, or has the wrong shape or dtype.
    """
    outputs = [_Comparison(graph, name, reference, factor) for name in graph.outputs]
    sizes = []
    for index, found in run_batches(graph, model, reference, track):
        sizes.append(len(index))
        for output, ours in zip(outputs, found, strict=True):
            output.add(index, ours)
    worst = [output.case() for output in outputs]
    histogram = {case.output: o.histogram for case, o in zip(worst, outputs, strict=True)}
    count = len(reference.double[graph.outputs[0]])
    return ParityResult(tuple(worst), histogram, count, tuple(dict.fromkeys(sizes)))


class _Comparison:
    """Errors of one output, collected batch by batch.

    The typical error is a root mean square over all rows, each row weighted by the inverse of its
    own rounding error: a single row that magnifies rounding, such as one of equal pixels before a
    group norm, must not hide an error in all others.
    """

    def __init__(self, graph: Graph, name: str, reference: Reference, factor: float) -> None:
        self.single, self.double = reference.single[name], reference.double[name]
        rounding = reference.rounding[name]
        self.name = f"{graph.role}.{name}"
        self.squares = np.square(rounding.typical)
        # Rows with an error far below the median, whose ratio is mere chance, count less.
        weights = self.squares + np.median(self.squares)
        self.weights = np.divide(1, weights, out=np.zeros_like(weights), where=weights > 0)
        self.ours = self.torch = 0.0  # weighted sums of squared errors
        self.histogram = np.zeros((DECADES[1] - DECADES[0]) * BINS_PER_DECADE, np.int64)
        self.worst = WorstCase(
            graph.role,
            name,
            error=-1.0,
            torch_error=rounding.largest,
            tolerance=factor * (FACTOR * rounding.largest + FLOOR),
            typical=0.0,
            # With few rows, what torch itself does is known less well.
            typical_tolerance=factor * TYPICAL * (1 + 1 / max(1, len(self.double))),
            difference=0.0,
            batch=0,
            index=(),
            value=0.0,
            expected=0.0,
        )

    def add(self, index: NDArray[np.intp], ours: NDArray[Any]) -> None:
        """Add a batch that holds the rows at `index`."""
        double = self.double[index]
        check_output(self.name, ours, "float32", double.shape)
        if not ours.size:
            return
        signed = ours - double
        self.ours += float((self.weights[index] * np.square(row_rms(signed))).sum())
        self.torch += float((self.weights * self.squares)[index].sum())
        error = np.abs(signed)
        exponent = np.log10(np.maximum(error, 10.0 ** DECADES[0]))
        self.histogram += np.histogram(np.clip(exponent, *DECADES), len(self.histogram), DECADES)[0]
        difference = float(np.abs(ours - self.single[index]).max())
        worst = replace(self.worst, difference=max(self.worst.difference, difference))
        where = np.unravel_index(int(error.argmax()), error.shape)
        if error[where] > worst.error:
            worst = replace(
                worst,
                error=float(error[where]),
                batch=len(ours),
                index=tuple(int(i) for i in where),
                value=float(ours[where]),
                expected=float(double[where]),
            )
        self.worst = worst

    def case(self) -> WorstCase:
        """Return the worst case of all batches."""
        typical = float(np.sqrt(self.ours / self.torch)) if self.torch else 0.0
        return replace(self.worst, typical=typical)


def run_batches(
    graph: Graph, model: bytes, reference: Reference, track: Track = untracked
) -> Iterator[tuple[NDArray[np.intp], list[NDArray[Any]]]]:
    """Run a graph on all rows, in batches of the sizes in BATCHES that its cost allows.

    Rows are repeated or dropped to fill a batch. If no batch holds all rows, more batches do.

    Yields:
        The index of each row of a batch in `reference.rows`, and the outputs.
    """
    rows, cost = reference.rows, reference.cost
    count = len(next(iter(rows.values())))
    most = cost.batch(BATCHES[-1])
    sizes = [size for size in BATCHES if size <= min(most, cost.rows(BATCHES[-1], RUNS))]
    batches = [np.arange(size) % count for size in sizes]
    if count > sizes[-1]:
        batches += [np.arange(start, min(start + most, count)) for start in range(0, count, most)]
    total = sum(len(index) for index in batches)
    with Session(model, device="cpu") as session:
        noun = f"rows of {graph.role} in onnxruntime"
        for index in track(batches, total, max(1, total // len(batches)), noun):
            inputs = {name: np.ascontiguousarray(rows[name][index]) for name in graph.inputs}
            yield index, session.run(graph.outputs, **inputs)


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


def parity_summary(results: list[ParityResult], factor: float) -> dict[str, Any]:
    """Summarise the results as the manifest's `parity` entry, with the factor of the tolerances."""
    worst = {f"{case.graph}.{case.output}": case for result in results for case in result.worst}
    by_graph = {result.worst[0].graph: result for result in results}

    def rounded(field: str) -> dict[str, float]:
        return {name: float(f"{getattr(case, field):.3g}") for name, case in worst.items()}

    return {
        "tolerance": f"|onnxruntime - torch float64| <= {factor * FACTOR:g} * |torch float32 - "
        f"torch float64| + {factor * FLOOR:g}",
        "typical_tolerance": f"{factor * TYPICAL:g} * typical error of torch float32",
        "tolerance_factor": factor,
        "rows": {name: result.rows for name, result in by_graph.items()},
        "batches": {name: list(result.batches) for name, result in by_graph.items()},
        "max_abs_error": rounded("error"),
        "typical_error_relative_to_torch_float32": rounded("typical"),
        "max_abs_difference_from_torch_float32": rounded("difference"),
    }
