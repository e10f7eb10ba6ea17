"""Golden vectors: inputs and torch's outputs, so that parity can be proved where torch is not."""

from __future__ import annotations

import io

import numpy as np
import torch

from .graphs import Graph
from .parity import Arrays

ROWS = 64  # at most, of each graph


def golden_vectors(graphs: list[Graph], inputs: dict[str, Arrays]) -> bytes:
    """A stored `.npz` with `ROLE.in.NAME` and `ROLE.out.NAME` for each tensor of each graph.

    Outputs are torch's in float32. The bytes depend on the values alone.
    """
    arrays: Arrays = {}
    for graph in graphs:
        rows = {name: _spread(values) for name, values in inputs[graph.role].items()}
        with torch.no_grad():
            found = graph.module(*(torch.from_numpy(rows[name]) for name in graph.inputs))
        outputs = found if isinstance(found, tuple) else (found,)
        arrays |= {f"{graph.role}.in.{name}": values for name, values in rows.items()}
        for name, tensor in zip(graph.outputs, outputs, strict=True):
            arrays[f"{graph.role}.out.{name}"] = tensor.numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _spread(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """At most ROWS rows, evenly from all."""
    index = np.linspace(0, len(values) - 1, min(ROWS, len(values))).astype(int)
    return np.ascontiguousarray(values[index])
