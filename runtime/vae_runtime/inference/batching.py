"""Running a graph over many rows: in chunks, several at a time where threads were asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .devices import bucket

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .session import Session

BATCH_SIZE = 256  # rows at most; fp32 products fall off above, and results do not depend on it
_PIXELS = BATCH_SIZE * 28 * 28  # in a chunk: large pictures go fewer at a time, in constant memory

Prepare = Callable[["NDArray[Any]"], "NDArray[Any]"]


class Wanted(NamedTuple):
    """What is asked of a graph: its outputs by name, and of each the shape of a row and the dtype.

    `uint8` of a graph that gives floats is quantised.
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    dtypes: list[np.dtype[Any]]


def rows_per_batch(pixels: int) -> int:
    """How many pictures of `pixels` numbers run together, 1 to BATCH_SIZE."""
    return max(1, min(BATCH_SIZE, _PIXELS // pixels))


def quantise(values: NDArray[Any], place: NDArray[Any]) -> None:
    """f32 in [0, 1] to the nearest of 256 levels, in the float's own memory."""
    np.multiply(values, np.float32(255), out=values)
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    np.copyto(place, values, casting="unsafe")


def run_batched(
    session: Session,
    inputs: Mapping[str, NDArray[Any]],
    wanted: Wanted,
    chunk: int = BATCH_SIZE,
    prepare: Mapping[str, Prepare] | None = None,
) -> list[NDArray[Any]]:
    """Run all rows and return each output whole, in the order of `wanted`.

    What fits one chunk is returned as the session gave it, without a copy. Of several chunks, as
    many run at a time as the session has threads: small products gain more from that than from
    threads inside each of them.

    Args:
        session: the graph.
        inputs: an array of n rows for each input; with n = 0 the session is not called.
        wanted: the outputs.
        chunk: rows in one run.
        prepare: what to do to the rows of an input before they run, chunk by chunk.
    """
    n = len(next(iter(inputs.values())))
    if 0 < n <= chunk:
        found = _run(session, wanted.names, _prepared(inputs, prepare) if prepare else inputs, n)
        for i, dtype in enumerate(wanted.dtypes):
            if found[i].dtype != dtype:
                found[i] = _quantised(found[i])
        return found
    shapes = zip(wanted.shapes, wanted.dtypes, strict=True)
    whole = [np.empty((n, *shape), dtype) for shape, dtype in shapes]

    def one(start: int) -> None:
        stop = min(start + chunk, n)
        rows = _prepared({name: v[start:stop] for name, v in inputs.items()}, prepare)
        for values, place in zip(
            _run(session, wanted.names, rows, stop - start), whole, strict=True
        ):
            _store(values, place[start:stop])

    starts = range(0, n, chunk)
    workers = min(session.threads, len(starts)) if session.device == "cpu" else 1
    if workers <= 1:
        for start in starts:
            one(start)
        return whole
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, starts):  # raises here what a thread raised, and drops the rest
            pass
    return whole


def _prepared(
    rows: Mapping[str, NDArray[Any]], prepare: Mapping[str, Prepare] | None
) -> Mapping[str, NDArray[Any]]:
    if prepare is None:
        return rows
    return {name: prepare[name](v) if name in prepare else v for name, v in rows.items()}


def _quantised(values: NDArray[Any]) -> NDArray[np.uint8]:
    place = np.empty(values.shape, np.uint8)
    quantise(values, place)
    return place


def _store(values: NDArray[Any], place: NDArray[Any]) -> None:
    if values.dtype == place.dtype:
        place[...] = values
    else:
        quantise(values, place)


def _run(
    session: Session, names: list[str], rows: Mapping[str, NDArray[Any]], n: int
) -> list[NDArray[Any]]:
    """One run; on CUDA filled up to a fixed batch with copies of the last row."""
    if session.device == "cpu" or bucket(n) == n:
        return session.run(names, **rows)
    extra = bucket(n) - n
    padded = {k: np.concatenate([v, np.repeat(v[-1:], extra, axis=0)]) for k, v in rows.items()}
    return [values[:n] for values in session.run(names, **padded)]
