"""What is exported, whatever it came from: graphs, spec, real images, facts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.datasets.mnist import SHA256, cache_folder
from vae_runtime.errors import MissingExtra, UsageError
from vae_train import Checkpoint

from .graphs import Graph, graphs_of
from .inputs import ROWS

_LIKELIHOOD = {"bce": "bernoulli", "mse": "gaussian", "gaussian": "gaussian"}


@dataclass(frozen=True)
class Source:
    """All that the exporter needs.

    Attributes:
        spec: without an id, which follows from the graphs.
        graphs: in the order of the bundle; their modules in evaluation mode.
        images: f32[N, C, H, W] in [0, 1], real ones, for the gate.
        labels: i64[N], theirs, or None.
        training: facts for the manifest.
        sha256: of the checkpoint or of the weights; may be empty.
    """

    spec: ModelSpec
    graphs: list[Graph]
    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


def from_checkpoint(checkpoint: Checkpoint, data: Dataset | None = None) -> Source:
    """A model that vae-train trained.

    Args:
        checkpoint: its weights, prior and facts.
        data: real images for the gate; without it the data set that the checkpoint names, where
            that needs no network, else the examples in the checkpoint.

    Raises:
        UsageError: `data` has images of another shape.
    """
    config = checkpoint.model
    spec = ModelSpec(
        id="",
        family=config.family,
        image=ImageSpec(*config.image_shape),
        latent_dim=config.latent_dim,
        classes=checkpoint.classes,
        likelihood=_LIKELIHOOD[checkpoint.train.objective],
        prior=checkpoint.prior,
        sigma=checkpoint.sigma,
    )
    if data is None:
        facts = checkpoint.facts.get("data", {})
        found = data_at_hand(str(facts.get("name", "")))
        # A folder of one's own may have the same name.
        same = found and (found.image_shape, list(found.classes)) == (
            config.image_shape, facts.get("classes")
        )  # fmt: skip
        data = found if same else None
    if data is None:
        known = checkpoint.example_labels
        images = as_float(checkpoint.examples.numpy())
        labels = None if known is None else known.numpy()
    else:
        check_shape(data, config.image_shape)
        images, labels = as_float(data.images[:ROWS]), labels_of(data, checkpoint.classes)
    recipe = {"recipe": checkpoint.train.to_dict(), "model": config.to_dict()}
    graphs = graphs_of(checkpoint.build())
    return Source(spec, graphs, images, labels, checkpoint.facts | recipe, checkpoint.sha256)


def data_at_hand(name: str) -> Dataset | None:
    """The test split of a named data set, if it can be read without the network."""
    if name == "mnist":
        names = [file for file in SHA256 if file.startswith("t10k")]
        if all((cache_folder() / "mnist" / f"{file}.gz").is_file() for file in names):
            return load_dataset("mnist", "test")
    elif name == "digits":
        try:
            return load_dataset("digits", "test")
        except MissingExtra:
            return None
    return None


def check_shape(data: Dataset, shape: tuple[int, int, int]) -> None:
    """Refuse images of another shape than the model's.

    Raises:
        UsageError: both shapes.
    """
    if data.image_shape != shape:
        raise UsageError(
            f"{data.name}: images {data.image_shape}, model {shape}, each (C, H, W). Image files "
            f"can be resized: --size {shape[1]}x{shape[2]}."
        )


def as_float(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """u8 to f32 in [0, 1], as the runtime scales."""
    return pixels.astype(np.float32) / np.float32(255)


def labels_of(data: Dataset, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """The labels of the images that the gate takes, where they are the model's."""
    return None if data.labels is None or data.classes != classes else data.labels[:ROWS]
