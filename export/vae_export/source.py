"""The input of an export: a model's graphs and spec, and real images for the parity check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.arrays import to_float32
from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.datasets.downloads import has_download
from vae_runtime.datasets.known import DOWNLOADS
from vae_runtime.detection import Normality
from vae_runtime.errors import MissingExtra, UsageError
from vae_train import Checkpoint

from .graphs import Graph, graphs_of
from .parity import MAX_IMAGES

_LIKELIHOOD = {"bce": "bernoulli", "mse": "gaussian", "gaussian": "gaussian"}


@dataclass(frozen=True)
class Source:
    """A model that is ready to be exported.

    Attributes:
        spec: the model spec; its id is empty until it is computed from the graphs.
        graphs: the graphs in bundle order, with their modules in evaluation mode.
        images: real images for the parity check, f32[N, C, H, W] in [0, 1], N ≥ 1.
        labels: labels of the images, i64[N]; None if there are none.
        training: training metadata for the manifest.
        sha256: checksum of the checkpoint or weights file; may be empty.
        forward: result of the comparison with a custom module's own `forward`, for the manifest;
            may be empty.
        normality: the content of `normality.npz`; empty if it is not known what is normal.
        normal: normal images u8 or f32 [N, C, H, W] that the model was not trained on, from which
            the bundle learns what is normal; None learns nothing.
    """

    spec: ModelSpec
    graphs: list[Graph]
    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    forward: dict[str, Any] = field(default_factory=dict)
    normality: bytes = b""
    normal: NDArray[Any] | None = None


def from_checkpoint(checkpoint: Checkpoint, data: Dataset | None = None) -> Source:
    """Prepare a checkpoint from vae-train.

    Args:
        checkpoint: a trained model.
        data: images for the parity check. By default, the test split of the data set named in the
            checkpoint if it is available offline, else the checkpoint's example images.

    Raises:
        UsageError: the images of `data` do not have the model's shape.
        InputError: what the checkpoint says is normal is malformed.
    """
    config = checkpoint.model
    spec = ModelSpec(
        id="",
        family=config.family,
        image=ImageSpec(*config.image_shape),
        latent_shape=(config.latent_dim,),
        classes=checkpoint.classes,
        likelihood=_LIKELIHOOD[checkpoint.train.objective],
        prior=checkpoint.prior,
        sigma=checkpoint.sigma,
    )
    if data is None:
        data = _offline_data(checkpoint)
    if data is None:
        images = to_float32(checkpoint.examples.numpy())
        known = checkpoint.example_labels
        labels = None if known is None else known.numpy()
    else:
        if data.image_shape != config.image_shape:
            _, height, width = config.image_shape
            raise UsageError(
                f"{data.name}: images are {data.image_shape}, the model takes "
                f"{config.image_shape}, each (C, H, W). Image files can be resized: "
                f"--size {height}x{width}."
            )
        images = to_float32(data.images[:MAX_IMAGES])
        labels = matching_labels(data, checkpoint.classes)
    if checkpoint.normality:
        Normality.from_bytes(checkpoint.normality, "checkpoint")  # raises if it is malformed
    recipe = {"recipe": checkpoint.train.to_dict(), "model": config.to_dict()}
    graphs = graphs_of(checkpoint.build())
    return Source(
        spec, graphs, images, labels, checkpoint.metadata | recipe, checkpoint.sha256,
        normality=checkpoint.normality,
    )  # fmt: skip


def _offline_data(checkpoint: Checkpoint) -> Dataset | None:
    """Load the test split of the data set named in the checkpoint, if it is available offline."""
    trained_on = checkpoint.metadata.get("data", {})
    name = trained_on.get("name")
    if name != "digits" and not (name in DOWNLOADS and has_download(DOWNLOADS[name], "test")):
        return None
    try:
        data = load_dataset(name, "test")
    except MissingExtra:  # digits come with scikit-learn
        return None
    # A user's folder may have the same name as a known data set.
    known = (checkpoint.model.image_shape, trained_on.get("classes"))
    return data if (data.image_shape, list(data.classes)) == known else None


def matching_labels(data: Dataset, classes: tuple[str, ...]) -> NDArray[np.int64] | None:
    """Return labels i64[N] for the parity check; None if the model has different classes."""
    return None if data.labels is None or data.classes != classes else data.labels[:MAX_IMAGES]
