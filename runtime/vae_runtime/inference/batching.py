"""Run a graph on many rows in batches; several threads can run several batches at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arrays import to_float32
from ..errors import InputError
from .devices import bucket

if TYPE_CHECKING:
    from .session import Session

BATCH_SIZE = 256  # maximum rows per batch: larger float32 products are slower; results are equal
_ON_GPU = 4  # times as many rows: on an H200, 1,024 at once take .54 of the time of four times 256
_PIXELS = BATCH_SIZE * 28 * 28  # per batch, so that memory stays constant for large images

Rows: TypeAlias = Mapping[str, NDArray[Any]]


class Output(NamedTuple):
    """An output of a graph: the shape of one row, and the dtype to return.

    For `uint8`, a float output of the graph is quantised.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def rows_per_batch(pixels: int, device: str = "cpu") -> int:
    """Return the rows per batch, 1 to BATCH_SIZE on a CPU, for images of `pixels` numbers each."""
    factor = _ON_GPU if device.startswith("cuda") else 1
    return max(1, factor * min(BATCH_SIZE, _PIXELS // pixels))


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
    n = len(next(iter(inputs.values())))
    if 0 < n <= batch_size:
        found = _run(session, outputs, inputs, n)
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
        found = _run(session, outputs, rows, stop - start)
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


def _run(session: Session, outputs: dict[str, Output], rows: Rows, n: int) -> list[NDArray[Any]]:
    """Run one batch and check the results; on CUDA, pad it with copies of the last row."""
    if "image" in rows:
        rows = {**rows, "image": to_float32(rows["image"])}
    extra = 0 if session.device == "cpu" else bucket(n) - n
    if extra:
        rows = {k: np.concatenate([v, np.repeat(v[-1:], extra, axis=0)]) for k, v in rows.items()}
    found = session.run(list(outputs), **rows)
    for (name, output), values in zip(outputs.items(), found, strict=True):
        _check_output(session, name, values, (n + extra, *output.shape))
    return [values[:n] for values in found] if extra else found


def _check_output(
    session: Session, name: str, values: NDArray[Any], shape: tuple[int, ...]
) -> None:
    """Check what a graph returned: its shape, and that its numbers are finite.

    Raises:
        InputError: the graph does not keep to its spec, or computed NaN or infinity.
    """
    if values.shape != shape:
        raise InputError(
            f"{session.name}: returned {name} {values.dtype}{list(values.shape)}, expected "
            f"{list(shape)}. Check the bundle with vae-run verify."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
        raise InputError(
            f"{session.name}: computed NaN or infinity in {name}, row {row}. Check its inputs, "
            "and the bundle with vae-run verify."
        )
