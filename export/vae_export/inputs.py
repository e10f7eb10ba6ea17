"""The rows that the gate runs: real images, every label, codes at 0, ±6σ and where images live."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_runtime.prior import Prior

from .graphs import Graph
from .parity import Arrays

EXTREMES = (0.0, 6.0, -6.0)
CODES = 256


def gate_inputs(
    graph: Graph,
    images: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    prior: Prior,
    classes: int,
) -> Arrays:
    """Rows for each input of one graph.

    Args:
        graph: whose inputs.
        images: f32[N, C, H, W] in [0, 1], real ones.
        labels: i64[N], theirs, or None.
        prior: where the codes lie.
        classes: K; label K means no label and is run as well.
    """
    if graph.inputs[0] == "image":
        values, first = images, labels
    else:
        values, first = codes(prior, classes), None
    rows: Arrays = {graph.inputs[0]: values}
    if "label" in graph.inputs:
        every = np.arange(len(values), dtype=np.int64) % (classes + 1)
        # Each image with its own label, then all images again with every label in turn.
        rows[graph.inputs[0]] = np.concatenate([values, values])
        rows["label"] = np.concatenate([every if first is None else first, every[::-1]])
    return rows


def codes(prior: Prior, classes: int) -> NDArray[np.float32]:
    """f32[M, D]: all zero, all ±6σ, each dimension alone at ±6σ, and draws from the prior."""
    mean, std = prior.spread()
    corners = [
        np.full(prior.latent_dim, sigma) * std + (mean if sigma else 0) for sigma in EXTREMES
    ]
    steps = 6 * np.diag(std)[:CODES]
    label = np.arange(CODES, dtype=np.int64) % (classes + 1)
    drawn = prior.sample(CODES, label if prior.kind == "class_gmm" else None, seed=0)
    return np.concatenate([np.stack(corners), mean + steps, mean - steps, drawn]).astype(np.float32)
