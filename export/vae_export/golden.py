"""Golden vectors: inputs and torch's outputs, so that parity can be proved where torch is not."""

from __future__ import annotations

import io

import numpy as np

from .parity import Arrays, Truth

ROWS = 64  # at most, of each graph


def golden_vectors(truths: dict[str, Truth]) -> bytes:
    """A stored `.npz` with `ROLE.in.NAME` and `ROLE.out.NAME` for each tensor of each graph.

    Outputs are torch's in float32. The bytes depend on the values alone.
    """
    arrays: Arrays = {}
    for role, truth in truths.items():
        count = len(next(iter(truth.rows.values())))
        index = np.linspace(0, count - 1, min(ROWS, count)).astype(int)
        for kind, tensors in (("in", truth.rows), ("out", truth.single)):
            arrays |= {
                f"{role}.{kind}.{n}": np.ascontiguousarray(v[index]) for n, v in tensors.items()
            }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
