"""Run a bundle's graphs on its golden vectors and compare the results with torch's results.

Golden vectors are inputs for each graph, stored in the bundle with the outputs that torch computed
for them. Reading and comparing them needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle.reader import Bundle
from .bundle.spec import GraphSpec, ModelSpec, TensorSpec
from .errors import InputError
from .files.npz import read_npz
from .graph_checks import check_graph
from .graph_checks.smoke_test import smoke_test
from .graphs import Graph
from .images import to_uint8

if TYPE_CHECKING:
    from numpy.typing import NDArray

# For float32 on any device, relative for numbers above 1. The golden vectors of a graph that
# magnifies rounding hold a larger one.
TOLERANCE = 1e-5
MAX_TOLERANCE = 0.01
# uint8 allows one level, because even a tiny error can move a pixel across a rounding boundary.
TOLERANCES = {"fp32": TOLERANCE, "fp16": 0.02, "int8": 0.25, "uint8": 1.01 / 255}
_DTYPES = ("float32", "int64", "uint8")


@dataclass(frozen=True)
class Match:
    """The comparison of one output of one graph with torch's.

    Attributes:
        file: file name of the graph.
        output: name of the tensor.
        rows: number of golden vectors.
        max_error: the largest |ours - torch's| / max(1, |torch's|).
        mean_error: the mean of this ratio.
        tolerance: the largest `max_error` that passes.
        levels: number of pixels that differ after rounding to 0 to 255; None for latents.
        pixels: number of pixels compared; None for latents.
        device: the device that ran the graph.
    """

    file: str
    output: str
    rows: int
    max_error: float
    mean_error: float
    tolerance: float
    levels: int | None
    pixels: int | None
    device: str

    @property
    def ok(self) -> bool:
        """Whether the largest error is within the tolerance."""
        return self.max_error <= self.tolerance

    def to_json(self) -> dict[str, Any]:
        """Return the fields and `ok` as a dictionary."""
        return {**asdict(self), "ok": self.ok}


def smoke_test_bundle(bundle: Bundle) -> None:
    """Check every graph and run it once in a subprocess, before this process runs it.

    Raises:
        InputError: a graph is refused, or crashes the process that runs it.
    """
    graphs = {f"{bundle.name}/{g.file.file}": bundle.read(g.file) for g in bundle.manifest.graphs}
    for where, raw in graphs.items():
        check_graph(raw, where)
    smoke_test(graphs)


def compare(bundle: Bundle, *, tolerance: float | None = None, **options: Any) -> Iterator[Match]:
    """Run every graph of a bundle on its golden vectors.

    Args:
        bundle: an open bundle.
        tolerance: the tolerance for every graph; None means its variant's entry in TOLERANCES, or
            that of the golden vectors.
        options: `device`, `threads` and `tf32`, as for `Graph`.

    Yields:
        One `Match` per output of each graph.

    Raises:
        InputError: a graph or the golden vectors are malformed, or contradict the manifest.
    """
    arrays = read_golden(bundle)
    for spec in bundle.manifest.graphs:
        inputs = {t.name: arrays[f"{spec.role}.in.{t.name}"] for t in spec.inputs}
        expected = {t.name: arrays[f"{spec.role}.out.{t.name}"] for t in spec.outputs}
        with Graph(bundle.read(spec.file), known=(bundle, spec), **options) as graph:
            found = graph.session.run(list(expected), **inputs)
            for (name, theirs), ours in zip(expected.items(), found, strict=True):
                allowed = _tolerance(spec, name, arrays) if tolerance is None else tolerance
                yield _match(spec, name, ours, theirs, allowed, graph.device)


def read_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """Read `golden.npz`: arrays named `ROLE.in.NAME` and `ROLE.out.NAME`.

    Returns:
        An array for every input and output of every graph: f32[N, …], or i64[N] for a label. N may
        differ between roles. Pixels are float32 in [0, 1], also for graphs that return uint8.
        Outputs may have a tolerance of their own, `ROLE.tolerance.NAME`, f32[1].

    Raises:
        InputError: not an `.npz` of plain numbers, or an array is missing or does not fit.
    """
    where = f"{bundle.name}/{bundle.manifest.golden.file}"
    arrays = read_npz(bundle.read(bundle.manifest.golden), where, numpy_only=True)
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES:
            raise InputError(f"{where}: {name} is {array.dtype.str}, expected <f4, <i8 or |u1")
        if not (array.size and np.isfinite(array).all()):
            raise InputError(f"{where}: {name} is empty or not finite. Export the bundle again.")
    for graph in bundle.manifest.graphs:
        rows = set()
        for side, tensors in (("in", graph.inputs), ("out", graph.outputs)):
            for tensor in tensors:
                name = f"{graph.role}.{side}.{tensor.name}"
                if name not in arrays:
                    raise InputError(f"{where}: the array {name} is missing. Export again.")
                _check_fits(arrays[name], tensor, bundle.manifest.spec, f"{where}: {name}")
                rows.add(len(arrays[name]))
                _check_tolerance(arrays, f"{graph.role}.tolerance.{tensor.name}", where)
        if len(rows) > 1:
            raise InputError(f"{where}: the arrays of {graph.role} have {sorted(rows)} rows")
    return arrays


def _tolerance(spec: GraphSpec, output: str, arrays: dict[str, NDArray[Any]]) -> float:
    """Return the largest error of an output that passes."""
    stored = arrays.get(f"{spec.role}.tolerance.{output}")
    if spec.variant == "fp32" and stored is not None:
        return float(stored[0])
    return TOLERANCES[spec.variant]


def _check_tolerance(arrays: dict[str, NDArray[Any]], name: str, where: str) -> None:
    array = arrays.get(name)
    if array is None:
        return
    one = array.dtype == np.float32 and array.shape == (1,)
    if not (one and 0 < array[0] <= MAX_TOLERANCE):
        raise InputError(
            f"{where}: {name} is {array.dtype}{list(array.shape)}, expected float32[1], above 0 "
            f"and at most {MAX_TOLERANCE}"
        )


def _check_fits(array: NDArray[Any], tensor: TensorSpec, spec: ModelSpec, where: str) -> None:
    dtype = "int64" if tensor.dtype == "int64" else "float32"
    if array.dtype.name != dtype or array.shape[1:] != tensor.shape[1:] or not array.ndim:
        raise InputError(
            f"{where} is {array.dtype}{list(array.shape)}, expected {dtype}{list(tensor.shape)}"
        )
    if dtype == "int64" and not (array.min() >= 0 and array.max() <= len(spec.classes)):
        raise InputError(f"{where} has labels outside 0 to {len(spec.classes)}")


def _match(
    spec: GraphSpec,
    name: str,
    ours: NDArray[Any],
    theirs: NDArray[Any],
    tolerance: float,
    device: str,
) -> Match:
    if ours.shape != theirs.shape:
        raise InputError(
            f"{spec.file.file}: {name} has shape {list(ours.shape)}, expected {list(theirs.shape)}"
        )
    levels = pixels = None
    if name == "image":
        levels, pixels = int((to_uint8(ours) != to_uint8(theirs)).sum()), ours.size
    scale = 255.0 if ours.dtype == np.uint8 else 1.0  # torch's pixels are always floats
    reference = theirs.astype(np.float64)
    error = np.abs(ours.astype(np.float64) / scale - reference) / np.maximum(1, np.abs(reference))
    # A single NaN must fail the comparison, although NaN is never greater than a tolerance.
    largest = float(error.max()) if np.isfinite(error).all() else float("inf")
    return Match(
        spec.file.file, name, len(ours), largest, float(error.mean()), tolerance, levels, pixels,
        device,
    )  # fmt: skip
