"""Measure what latents are worth as features, beside pixels and principal components."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.uses.training import trained
from vae_runtime.arrays import to_float32
from vae_runtime.datasets import Dataset
from vae_runtime.probe import Accuracy, principal_components, probe
from vae_train import Checkpoint
from vae_train.run import codec_of

FAMILIES = ("vae", "cvae")


@dataclass(frozen=True)
class Worth:
    """How well two simple classifiers predict labels from one kind of features.

    Attributes:
        data, features, seed: the data set; "latents of a VAE", "pixels" and so on; of the training.
        dimensions, linear, neighbours: see `vae_runtime.probe.Accuracy`.
    """

    data: str
    features: str
    seed: int
    dimensions: int
    linear: float
    neighbours: float


def worth(
    name: str, training: Dataset, test: Dataset, seeds: list[int], work: Path
) -> Iterator[Worth]:
    """Train with default options on all images; probe test images, the same ones for each model."""
    for i, (family, seed) in enumerate(product(FAMILIES, seeds)):
        found = trained(family, training, work / f"features-{name}-{family}-{seed}.pt", seed)
        for features, accuracy in measure(found, test, baselines=i == 0).items():
            kind = f"latents of a {family.upper()}" if features == "latents" else features
            yield Worth(name, kind, seed, *accuracy)


def measure(checkpoint: Checkpoint, test: Dataset, *, baselines: bool) -> dict[str, Accuracy]:
    """Probe the posterior means, encoded without labels, and perhaps components and pixels."""
    assert test.labels is not None
    codec = codec_of(checkpoint.build(), torch.device("cpu"))
    z = np.concatenate([codec.encode(to_float32(x), None)[0] for x in test.batches(1000)])
    features: dict[str, NDArray[Any]] = {"latents": z}
    if baselines:
        pixels = np.asarray(test.images)
        features["as many principal components"] = principal_components(pixels, z.shape[1])
        features["pixels"] = pixels
    return probe(features, test.labels.tolist())


def table(rows: list[Worth]) -> str:
    """Render the results of one data set: the means over the seeds."""
    lines = []
    for features in dict.fromkeys(row.features for row in rows):
        own = [row for row in rows if row.features == features]
        linear, neighbours = np.mean([(row.linear, row.neighbours) for row in own], axis=0)
        seeds = str(len(own)) if features.startswith("latents") else "–"
        lines.append(
            f"| {features} | {own[0].dimensions} | {seeds} | {linear:.3f} | {neighbours:.3f} |"
        )
    return "\n".join([
        f"| {rows[0].data} | numbers | seeds | linear probe | nearest neighbours |",
        "| --- | ---: | ---: | ---: | ---: |", *lines,
    ])  # fmt: skip
