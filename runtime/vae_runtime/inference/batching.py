"""Run a graph over many rows in batches, several at a time if threads were asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .devices import bucket

if TYPE_CHECKING:
    from .session import Session

BATCH_SIZE = 256  # at most; fp32 products slow down above it, and results do not depend on it
_PIXELS = BATCH_SIZE * 28 * 28  # per batch: large images run fewer at a time, in constant memory

Rows: TypeAlias = Mapping[str, NDArray[Any]]
Prepare: TypeAlias = Callable[[NDArray[Any]], NDArray[Any]]


class Output(NamedTuple):
    """An output of a graph: the shape of one row, and the dtype to return it in.

    `uint8` from a graph that gives floats is quantised.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def rows_per_batch(pixels: int) -> int:
    """How many images of `pixels` numbers run together, 1 to BATCH_SIZE."""
    return max(1, min(BATCH_SIZE, _PIXELS // pixels))


def quantise(values: NDArray[Any], out: NDArray[Any]) -> None:
    """Round f32 in [0, 1] to the nearest of 256 levels. Overwrites `values`."""
    np.multiply(values, np.float32(255), out=values)
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    np.copyto(out, values, casting="unsafe")


def run_batched(
    session: Session,
    inputs: Rows,
    outputs: dict[str, Output],
    batch_size: int = BATCH_SIZE,
    prepare: Mapping[str, Prepare] | None = None,
) -> list[NDArray[Any]]:
    """Run all rows and return each output whole, in the order of `outputs`.

    What fits one batch is returned as the session gave it, without a copy. Of several batches, as
    many run at a time as the session has threads: small matrix products gain more from that than
    from threads inside each of them.

    Args:
        session: the graph.
        inputs: an array of n rows for each input. With n = 0 the session is not called.
        outputs: what to return, by name.
        batch_size: rows per run.
        prepare: a function for the rows of an input, applied batch by batch before they run.
    """
    n, names = len(next(iter(inputs.values()))), list(outputs)
    if 0 < n <= batch_size:
        found = _run(session, names, _prepared(inputs, prepare) if prepare else inputs, n)
        for i, output in enumerate(outputs.values()):
            if found[i].dtype != output.dtype:
                found[i] = _quantised(found[i])
        return found
    whole = [np.empty((n, *output.shape), output.dtype) for output in outputs.values()]

    def run_one(start: int) -> None:
        stop = min(start + batch_size, n)
        rows = {name: values[start:stop] for name, values in inputs.items()}
        found = _run(session, names, _prepared(rows, prepare), stop - start)
        for values, target in zip(found, whole, strict=True):
            if values.dtype == target.dtype:
                target[start:stop] = values
            else:
                quantise(values, target[start:stop])

    starts = range(0, n, batch_size)
    workers = min(session.threads, len(starts)) if session.device == "cpu" else 1
    if workers <= 1:
        for start in starts:
            run_one(start)
        return whole
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(run_one, starts):  # raises here what a thread raised, and drops the rest
            pass
    return whole


def _prepared(rows: Rows, prepare: Mapping[str, Prepare] | None) -> Rows:
    if prepare is None:
        return rows
    return {name: prepare[name](v) if name in prepare else v for name, v in rows.items()}


def _quantised(values: NDArray[Any]) -> NDArray[np.uint8]:
    pixels = np.empty(values.shape, np.uint8)
    quantise(values, pixels)
    return pixels


def _run(session: Session, names: list[str], rows: Rows, n: int) -> list[NDArray[Any]]:
    """Run one batch; on CUDA, padded to a fixed size with copies of the last row."""
    if session.device == "cpu" or bucket(n) == n:
        return session.run(names, **rows)
    extra = bucket(n) - n
    padded = {k: np.concatenate([v, np.repeat(v[-1:], extra, axis=0)]) for k, v in rows.items()}
    return [values[:n] for values in session.run(names, **padded)]
