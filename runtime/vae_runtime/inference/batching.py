"""Run a graph on many rows in batches; several threads can run several batches at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import to_float32
from .devices import bucket

if TYPE_CHECKING:
    from .session import Session

BATCH_SIZE = 256  # maximum rows per batch: larger float32 products are slower; results are equal
_PIXELS = BATCH_SIZE * 28 * 28  # per batch, so that memory stays constant for large images

Rows: TypeAlias = Mapping[str, NDArray[Any]]


class Output(NamedTuple):
    """An output of a graph: the shape of one row, and the dtype to return.

    For `uint8`, a float output of the graph is quantised.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def rows_per_batch(pixels: int) -> int:
    """Return the batch size, from 1 to BATCH_SIZE, for images that have `pixels` numbers each."""
    return max(1, min(BATCH_SIZE, _PIXELS // pixels))


def quantise(values: NDArray[Any], out: NDArray[Any]) -> None:
    """Round f32 in [0, 1] to the nearest of 256 levels in `out`; `values` is overwritten."""
    np.multiply(values, np.float32(255), out=values)
    np.rint(values, out=values)
    np.clip(values, 0, 255, out=values)
    np.copyto(out, values, casting="unsafe")


def run_batched(
    session: Session,
    inputs: Rows,
    outputs: dict[str, Output],
    batch_size: int = BATCH_SIZE,
) -> list[NDArray[Any]]:
    """Run all rows and return the outputs in the order of `outputs`.

    If all rows fit one batch, the session's arrays are returned without a copy. Otherwise,
    on the CPU, as many batches run concurrently as the session has threads: small matrix products
    gain more from that than from threads within each product.

    Args:
        session: the graph.
        inputs: an array of n rows per input. The input `image` may be u8; it is then scaled to
            [0, 1] batch by batch. If n is 0, the session does not run.
        outputs: the outputs to return, by name.
        batch_size: rows per run.
    """
    n, names = len(next(iter(inputs.values()))), list(outputs)
    if 0 < n <= batch_size:
        found = _run(session, names, inputs, n)
        for i, output in enumerate(outputs.values()):
            if found[i].dtype != output.dtype:
                pixels = np.empty(found[i].shape, output.dtype)
                quantise(found[i], pixels)
                found[i] = pixels
        return found
    whole = [np.empty((n, *output.shape), output.dtype) for output in outputs.values()]

    def run_one(start: int) -> None:
        stop = min(start + batch_size, n)
        rows = {name: values[start:stop] for name, values in inputs.items()}
        found = _run(session, names, rows, stop - start)
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
        for _ in pool.map(run_one, starts):  # re-raises the first error and cancels the rest
            pass
    return whole


def _run(session: Session, names: list[str], rows: Rows, n: int) -> list[NDArray[Any]]:
    """Run one batch; on CUDA, pad it to a fixed size with copies of the last row."""
    if "image" in rows:
        rows = {**rows, "image": to_float32(rows["image"])}
    if session.device == "cpu" or bucket(n) == n:
        return session.run(names, **rows)
    extra = bucket(n) - n
    padded = {k: np.concatenate([v, np.repeat(v[-1:], extra, axis=0)]) for k, v in rows.items()}
    return [values[:n] for values in session.run(names, **padded)]
