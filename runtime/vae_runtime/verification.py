"""Compare a bundle's graphs with its golden vectors, which torch computed; no torch needed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle.golden import read_golden
from .bundle.reader import Bundle
from .bundle.spec import METADATA_KEY, GraphSpec, parse_spec, same_id
from .errors import InputError
from .graph_checks import check_graph
from .graph_checks.smoke_test import smoke_test
from .graphs import check_tensors
from .images import to_uint8
from .inference.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5  # float32 on any device; relative for numbers above 1
LOSSY = {"fp16": 0.02, "int8": 0.25}  # the largest errors that these variants may have
ONE_LEVEL = 1.01 / 255  # a byte may fall on either side of a rounding boundary


@dataclass(frozen=True)
class Match:
    """One output of one graph compared with torch's.

    Attributes:
        file: the graph.
        output: the tensor's name.
        rows: golden vectors compared.
        max_error: the largest |ours - torch's| / max(1, |torch's|).
        mean_error: the mean of the same.
        tolerance: what `max_error` may be.
        levels: pixels whose value of 0 to 255 differs; None for latents.
        pixels: pixels compared; None for latents.
        device: where the graph ran.
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
        """Return plain values."""
        return {**asdict(self), "ok": self.ok}


def smoke_test_bundle(bundle: Bundle) -> None:
    """Check every graph and run it once in a subprocess, before this process runs it.

    Raises:
        InputError: a graph is refused, or ends the process that runs it.
    """
    graphs = {f"{bundle.name}/{g.file.file}": bundle.read(g.file) for g in bundle.manifest.graphs}
    for where, raw in graphs.items():
        check_graph(raw, where)
    smoke_test(graphs)


def compare(bundle: Bundle, *, tolerance: float | None = None, **options: Any) -> Iterator[Match]:
    """Run every graph of a bundle on its golden vectors.

    Args:
        bundle: an open bundle.
        tolerance: for every graph; the default is TOLERANCE, and more for variants that round.
        options: `device`, `threads` and `tf32` of the sessions.

    Yields:
        One match for each output of each graph.

    Raises:
        InputError: a graph or the golden vectors are malformed or do not fit the manifest.
    """
    arrays = read_golden(bundle)
    for spec in bundle.manifest.graphs:
        inputs = {t.name: arrays[f"{spec.role}.in.{t.name}"] for t in spec.inputs}
        expected = {t.name: arrays[f"{spec.role}.out.{t.name}"] for t in spec.outputs}
        raw = bundle.read(spec.file)
        check_graph(raw, f"{bundle.name}/{spec.file.file}")
        with Session(raw, **options) as session:
            _check_graph_fits(session, bundle, spec)
            found = session.run(list(expected), **inputs)
            for (name, theirs), ours in zip(expected.items(), found, strict=True):
                yield _match(spec, name, ours, theirs, _tolerance(spec, tolerance), session.device)


def _check_graph_fits(session: Session, bundle: Bundle, graph_spec: GraphSpec) -> None:
    """Refuse a graph of another bundle, or one that is not what the manifest says."""
    spec, where = bundle.manifest.spec, f"{bundle.name}/{graph_spec.file.file}"
    text = session.metadata.get(METADATA_KEY)
    if text is None or not (same_id(text, spec) or parse_spec(text, where)[0].id == spec.id):
        raise InputError(f"{where}: belongs to another bundle, expected {spec.id}. Export again.")
    check_tensors(session, spec, graph_spec.role, graph_spec.variant, where)


def _tolerance(spec: GraphSpec, tolerance: float | None) -> float:
    if tolerance is not None:
        return tolerance
    return ONE_LEVEL if spec.variant == "uint8" else LOSSY.get(spec.variant, TOLERANCE)


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
            f"{spec.file.file}: {name} has shape {list(ours.shape)}, golden {list(theirs.shape)}"
        )
    levels = pixels = None
    if name == "image":
        levels, pixels = int((to_uint8(ours) != to_uint8(theirs)).sum()), ours.size
    scale = 255.0 if ours.dtype == np.uint8 else 1.0  # torch's are always floats
    reference = theirs.astype(np.float64)
    error = np.abs(ours.astype(np.float64) / scale - reference) / np.maximum(1, np.abs(reference))
    # A NaN anywhere must fail, and NaN compares false with every tolerance.
    largest = float(error.max()) if np.isfinite(error).all() else float("inf")
    return Match(
        spec.file.file, name, len(ours), largest, float(error.mean()), tolerance, levels, pixels,
        device,
    )  # fmt: skip
