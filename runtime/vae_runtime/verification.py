"""Golden vectors: torch's own outputs in the bundle, beside this machine's, without torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle.manifest import GraphSpec
from .bundle.reader import Bundle
from .bundle.spec import METADATA_KEY, parse_spec, same_id
from .errors import InputError
from .files.npz import read_npz
from .graph_checks import check_graph
from .graph_checks.smoke_test import smoke_test
from .graphs import check_tensors
from .images import to_uint8
from .inference.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOLERANCE = 1e-5  # float32 on any device; a code's error is taken relative to its size above 1
LOSSY = {"fp16": 0.02, "int8": 0.25}  # what these variants may cost at most
ONE_LEVEL = 1.01 / 255  # bytes may fall to either side of a rounding edge


@dataclass(frozen=True)
class Match:
    """One output of one graph beside torch's.

    Attributes:
        file: the graph.
        output: the tensor's name.
        rows: golden vectors compared.
        max_error: the largest |ours - torch's| / max(1, |torch's|).
        mean_error: its mean.
        tolerance: what `max_error` may be.
        levels: pixels that get another of the 256 grey levels; None for latents.
        pixels: of this many.
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
        """Plain values."""
        return {**asdict(self), "ok": self.ok}


def smoke_test_bundle(bundle: Bundle) -> None:
    """Run every graph once where it can do no harm, before this process does.

    Raises:
        InputError: a graph that is refused, or that ends the process that runs it.
    """
    graphs = {f"{bundle.name}/{g.file.file}": bundle.read(g.file) for g in bundle.manifest.graphs}
    for where, raw in graphs.items():
        check_graph(raw, where)
    smoke_test(graphs)


def compare(bundle: Bundle, *, tolerance: float | None = None, **options: Any) -> Iterator[Match]:
    """Run every graph of a bundle on its golden vectors.

    Args:
        bundle: opened.
        tolerance: of every graph; by default TOLERANCE, and more for variants that round.
        options: `device`, `threads` and `tf32` of the sessions.

    Yields:
        One match for each output of each graph.

    Raises:
        InputError: the bundle's golden vectors are malformed or missing.
    """
    arrays = read_golden(bundle)
    for spec in bundle.manifest.graphs:
        inputs = _of(arrays, f"{spec.role}.in.", [t.name for t in spec.inputs], bundle.name)
        expected = _of(arrays, f"{spec.role}.out.", [t.name for t in spec.outputs], bundle.name)
        raw = bundle.read(spec.file)
        check_graph(raw, f"{bundle.name}/{spec.file.file}")
        with Session(raw, **options) as session:
            _check_fits(session, bundle, spec)
            found = session.run(list(expected), **inputs)
            for (name, theirs), ours in zip(expected.items(), found, strict=True):
                yield _match(spec, name, ours, theirs, _allowed(spec, tolerance), session.device)


def _check_fits(session: Session, bundle: Bundle, graph_spec: GraphSpec) -> None:
    """Refuse a graph of another bundle, or one that is not what the manifest says."""
    spec, where = bundle.manifest.spec, f"{bundle.name}/{graph_spec.file.file}"
    text = session.metadata.get(METADATA_KEY)
    if text is None or not (same_id(text, spec) or parse_spec(text, where)[0].id == spec.id):
        raise InputError(f"{where}: belongs to another bundle, expected {spec.id}. Export again.")
    check_tensors(session, spec, graph_spec.role, graph_spec.variant, where)


def read_golden(bundle: Bundle) -> dict[str, NDArray[Any]]:
    """The arrays of `golden.npz`: `ROLE.in.NAME` and `ROLE.out.NAME`."""
    arrays = read_npz(
        bundle.read(bundle.manifest.golden), f"{bundle.name}/{bundle.manifest.golden.file}"
    )
    for name, array in arrays.items():
        if not (array.size and array.dtype.isnative and np.isfinite(array).all()):
            raise InputError(
                f"{bundle.name}: golden vectors {name} are none, big-endian or not finite"
            )
    return arrays


def _of(
    arrays: dict[str, NDArray[Any]], prefix: str, names: list[str], where: str
) -> dict[str, NDArray[Any]]:
    missing = [name for name in names if prefix + name not in arrays]
    if missing:
        raise InputError(f"{where}: no golden vectors {prefix}{missing[0]}. Export it again.")
    return {name: arrays[prefix + name] for name in names}


def _allowed(spec: GraphSpec, tolerance: float | None) -> float:
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
    scale = 255.0 if ours.dtype == np.uint8 else 1.0  # torch's are floats, always
    reference = theirs.astype(np.float64)
    error = np.abs(ours.astype(np.float64) / scale - reference) / np.maximum(1, np.abs(reference))
    # A NaN anywhere must fail, and NaN compares false with every tolerance.
    worst = float(error.max()) if np.isfinite(error).all() else float("inf")
    return Match(
        spec.file.file, name, len(ours), worst, float(error.mean()), tolerance, levels, pixels,
        device,
    )  # fmt: skip
