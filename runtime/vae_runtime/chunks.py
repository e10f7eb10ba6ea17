"""Running a graph over many rows: fixed chunks, one preallocated output, nothing copied twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .device import bucket

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .session import Session

CHUNK = 256  # fp32 products fall off above; results do not depend on it

# From the values that a graph gave to their place in the output.
Store = Callable[["NDArray[Any]", "NDArray[Any]"], object]
Rows = Callable[[int, int], "NDArray[Any]"]


def copy(values: NDArray[Any], place: NDArray[Any]) -> None:
    """Keep the values as they are."""
    place[...] = values


def quantise(values: NDArray[Any], place: NDArray[Any]) -> None:
    """f32 in [0, 1] to the nearest of 256 levels, in the float's own memory."""
    np.multiply(values, np.float32(255), out=values)
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    np.copyto(place, values, casting="unsafe")


def run_chunked(
    session: Session,
    inputs: Mapping[str, Rows],
    n: int,
    outputs: Mapping[str, NDArray[Any]],
    store: Store = copy,
) -> None:
    """Run `n` rows in chunks of CHUNK and store each output in its array.

    Args:
        session: the graph.
        inputs: for each input, rows `start` to `stop`, made when they are needed.
        n: how many rows; with 0 the session is not called.
        outputs: for each output, the array of n rows to fill.
        store: how values get there.
    """
    names: Sequence[str] = list(outputs)
    for start in range(0, n, CHUNK):
        stop = min(start + CHUNK, n)
        rows = {name: take(start, stop) for name, take in inputs.items()}
        for name, values in zip(names, _run(session, names, rows, stop - start), strict=True):
            store(values, outputs[name][start:stop])


def _run(
    session: Session, names: Sequence[str], rows: dict[str, NDArray[Any]], n: int
) -> list[NDArray[Any]]:
    """One run; on CUDA filled up to a fixed batch with copies of the last row."""
    if session.device == "cpu" or bucket(n) == n:
        return session.run(names, **rows)
    extra = bucket(n) - n
    padded = {k: np.concatenate([v, np.repeat(v[-1:], extra, axis=0)]) for k, v in rows.items()}
    return [values[:n] for values in session.run(names, **padded)]
