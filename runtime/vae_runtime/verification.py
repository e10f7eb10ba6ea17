"""Run a bundle's graphs on its golden vectors and compare the results with torch's results.

Golden vectors are inputs for each graph, stored in the bundle with the outputs that torch computed
for them. Reading and comparing them needs no torch.

`compare_in_subprocess` is for bundles of unknown origin: a graph that crashes, never finishes or
exhausts memory then harms another process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import errors
from .bundle.reader import Bundle, open_files
from .bundle.spec import GraphSpec, ModelSpec, TensorSpec
from .errors import InputError, VaeError
from .files.npz import read_npz
from .graph_checks import check_graph
from .graphs import Graph
from .images import to_uint8
from .inference.batching import Output, run_batched
from .inference.devices import cuda_driver

if TYPE_CHECKING:
    from numpy.typing import NDArray

# For float32 on any device, relative for numbers above 1. The golden vectors of a graph that
# magnifies rounding hold a larger one.
TOLERANCE = 1e-5
MAX_TOLERANCE = 0.01
# uint8 allows one level, because even a tiny error can move a pixel across a rounding boundary.
TOLERANCES = {"fp32": TOLERANCE, "fp16": 0.02, "int8": 0.25, "uint8": 1.01 / 255}
_DTYPES = ("float32", "int64", "uint8")
TIMEOUT_S = 300.0
_MAX_MEMORY = 8 << 30  # bytes of address space, most of which onnxruntime reserves but never uses


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
            outputs = {t.name: _output(t) for t in spec.outputs}
            found = run_batched(graph.session, inputs, outputs, graph.batch_size)
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


def _output(tensor: TensorSpec) -> Output:
    return Output(tuple(int(n) for n in tensor.shape[1:]), np.dtype(tensor.dtype))


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


# Comparing in a subprocess


def compare_in_subprocess(
    bundle: Bundle, *, timeout: float = TIMEOUT_S, **options: Any
) -> list[Match]:
    """Check every graph of a bundle, then do what `compare` does in a subprocess.

    It passes if the graphs harm nothing on the golden vectors. A graph may still do harm for other
    inputs.

    Args:
        bundle: an open bundle.
        timeout: seconds for all graphs.
        options: as for `compare`.

    Raises:
        InputError: a graph is refused; or the subprocess crashed or took too long.
        VaeError: as for `compare`.
    """
    files = bundle.read_all()
    for graph in bundle.manifest.graphs:
        check_graph(files[graph.file.file], f"{bundle.name}/{graph.file.file}")
    if getattr(sys, "frozen", False):  # a frozen program has no interpreter to start
        return list(compare(bundle, **options))
    header = {
        "name": bundle.name,
        "options": options,
        "sizes": {k: len(v) for k, v in files.items()},
    }
    message = b"".join([json.dumps(header).encode(), b"\n", *files.values()])
    # -P prevents imports from the current folder, which may contain untrusted files.
    command = [sys.executable, "-P", "-m", __name__]
    try:
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{bundle.name}: refused: running the golden vectors took over {timeout:g} seconds. "
            "For a large model, raise --timeout."
        ) from error
    return _read_answers(done.stdout.decode(), done.returncode, bundle)


def _read_answers(text: str, code: int, bundle: Bundle) -> list[Match]:
    """Parse what the subprocess wrote: matches, warnings, and at most one error."""
    matches = []
    for line in text.split("\n")[:-1]:  # without what a crash cut off
        kind, *content = json.loads(line)
        if kind == "match":
            matches.append(Match(**content[0]))
        elif kind == "warning":
            warnings.warn(content[0], RuntimeWarning, stacklevel=3)
        else:
            raise getattr(errors, kind)(content[0])
    expected = [graph.file.file for graph in bundle.manifest.graphs for _ in graph.outputs]
    if code or len(matches) < len(expected):
        where = expected[min(len(matches), len(expected) - 1)]
        how = f"signal {-code}" if code < 0 else "an error or lack of memory"
        raise InputError(
            f"{bundle.name}/{where}: refused: running its golden vectors in a subprocess ended by "
            f"{how}"
        )
    return matches


def _answer(source: BinaryIO) -> None:
    """In the subprocess: read a bundle, compare, and print one JSON list per line."""
    header = json.loads(source.readline())
    # CUDA reserves far more addresses than it uses memory.
    if header["options"].get("device") == "cpu" or not cuda_driver().devices:
        _limit_memory()
    files = {name: source.read(size) for name, size in header["sizes"].items()}

    def say(*content: Any) -> None:
        print(json.dumps(content), flush=True)

    warnings.showwarning = lambda message, *_, **__: say("warning", str(message))
    try:
        for match in compare(open_files(files, header["name"]), **header["options"]):
            say("match", asdict(match))
    except VaeError as error:
        say(type(error).__name__, str(error))


def _limit_memory() -> None:
    """Limit this process's memory, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for which, wanted in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (allowed, hard))


if __name__ == "__main__":
    from .console import reserve_stdout

    reserve_stdout()
    _answer(sys.stdin.buffer)
