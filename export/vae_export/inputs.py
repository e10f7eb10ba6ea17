"""The rows that the gate runs: real images, every label, latents at 0, at 6 sigma and as drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_runtime.prior import Prior

from .graphs import Graph
from .parity import Arrays

EXTREMES = (0.0, 6.0, -6.0)  # standard deviations
ROWS = 256  # distinct images, enough for the worst case; float64 convolutions are slow
_LABELS = 4096
_AXES = 64  # dimensions that are taken to ±6 sigma one by one


def gate_inputs(
    graph: Graph,
    images: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
    prior: Prior,
    classes: int,
) -> Arrays:
    """Rows for each input of one graph, the extreme ones first.

    Args:
        graph: whose inputs.
        images: f32[N, C, H, W] in [0, 1], real ones, at least one.
        labels: i64[N], theirs, or None.
        prior: where the latents lie.
        classes: K; label K means no label and is run as well.
    """
    labelled = "label" in graph.inputs
    if graph.inputs[0] == "image":
        return _image_rows(images[:ROWS], labels, classes) if labelled else {"image": images[:ROWS]}
    return _code_rows(prior, classes, labelled=labelled)


def _image_rows(
    images: NDArray[np.float32], labels: NDArray[np.int64] | None, classes: int
) -> Arrays:
    """Images with every label in turn, then each with its own."""
    every = _every_label(classes)
    swept = np.resize(images, (len(every), *images.shape[1:]))
    if labels is None:
        return {"image": swept, "label": every}
    own = labels[: len(images)].astype(np.int64)
    return {"image": np.concatenate([swept, images]), "label": np.concatenate([every, own])}


def _code_rows(prior: Prior, classes: int, *, labelled: bool) -> Arrays:
    """Codes at 0 and ±6 sigma with every label, single dimensions at ±6 sigma, then draws."""
    corners, axes = extreme_latents(prior)
    drawn, label = sampled_latents(prior, classes, ROWS // 4)
    if not labelled:
        return {"z": np.concatenate([corners, axes, drawn])}
    every = _every_label(classes)
    swept = np.repeat(corners, len(every), 0)
    wanted = [np.tile(every, len(corners)), np.resize(every, len(axes)), label]
    return {"z": np.concatenate([swept, axes, drawn]), "label": np.concatenate(wanted)}


def _every_label(classes: int) -> NDArray[np.int64]:
    """0 to K, where K means no label; evenly thinned out above _LABELS."""
    return np.linspace(0, classes, min(classes + 1, _LABELS)).astype(np.int64)


def extreme_latents(prior: Prior) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Codes all zero, all at + and at -6 sigma, f32[3, D]; one axis at ±6 sigma, f32[≤128, D]."""
    mean, std = prior.spread()
    corners = [np.full(prior.latent_dim, n) * std + (mean if n else 0) for n in EXTREMES]
    steps = 6 * np.diag(std)[:_AXES]
    axes = np.concatenate([mean + steps, mean - steps])
    return np.stack(corners).astype(np.float32), axes.astype(np.float32)


def sampled_latents(
    prior: Prior, classes: int, n: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Codes from the prior, f32[n, D], each class in turn, and their labels i64[n]."""
    label = np.arange(n, dtype=np.int64) % (classes + 1)
    return prior.sample(n, label if prior.kind == "class_gmm" else None, seed), label
