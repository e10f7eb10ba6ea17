"""Checkpoints: all that is left of a training run, and all that an export needs, in one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_models import ModelConfig, build
from vae_runtime.errors import InputError
from vae_runtime.prior import Prior

from .config import TrainConfig
from .objective import Model
from .sealed import REFUSED, read_sealed, write_sealed

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that export needs, and what was measured.

    Attributes:
        model: the shape of the model.
        state: its tensors by name.
        train: the recipe.
        prior: the fitted latent prior.
        classes: class names; empty without labels.
        facts: data set, command, epochs, metrics, versions; plain values, copied to the manifest.
        examples: u8[≤64, C, H, W], real images that the exporter checks its graphs with and stores
            as golden vectors; of the test split where there is one.
        example_labels: i64[≤64]; None without labels.
        sigma: standard deviation of the Gaussian likelihood that the decoder was trained with, in
            units of [0, 1]; None for other objectives.
        sha256: the digest of the file it was read from; empty if it was never a file.
    """

    model: ModelConfig
    state: dict[str, Tensor]
    train: TrainConfig
    prior: Prior
    examples: Tensor
    example_labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    sigma: float | None = None
    sha256: str = ""

    def build(self) -> Model:
        """The trained module, in evaluation mode on the CPU."""
        model = build(self.model)
        model.load_state_dict(self.state)
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write a checkpoint; a previous file is replaced only by a whole one.

    Returns:
        The sha256 of the file.
    """
    content = {
        "format": FORMAT,
        "model": checkpoint.model.to_dict(),
        # Cloned: of a view, torch would store all that it is a view of.
        "state": {name: t.detach().cpu().clone() for name, t in checkpoint.state.items()},
        "train": checkpoint.train.to_dict(),
        "prior": checkpoint.prior.to_json(),
        "examples": checkpoint.examples.cpu(),
        "example_labels": checkpoint.example_labels,
        "classes": list(checkpoint.classes),
        "facts": checkpoint.facts,
    }
    if checkpoint.sigma is not None:
        content["sigma"] = checkpoint.sigma
    return write_sealed(content, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint after checking its digest and what its zip and pickle hold.

    Only tensors and plain values are unpickled.

    Raises:
        NotFound: no such file.
        IntegrityError: the bytes are not those that were written.
        InputError: not a checkpoint of this project, or of a newer format.
    """
    data, digest = read_sealed(path)
    try:
        if data["format"] != FORMAT:
            raise InputError(
                f"{path}: checkpoint format {data['format']}, this version reads {FORMAT}. "
                "Upgrade: pip install -U vae-onnx"
            )
        checkpoint = Checkpoint(
            ModelConfig.from_dict(data["model"]),
            data["state"],
            TrainConfig.from_dict(data["train"]),
            Prior.from_json(data["prior"]),
            data["examples"],
            data["example_labels"],
            tuple(data["classes"]),
            data["facts"],
            data.get("sigma"),
            digest,
        )
        fits = _parts_fit(checkpoint)
    except InputError:
        raise
    except REFUSED as error:
        raise InputError(f"{path}: not a checkpoint that vae-train wrote") from error
    if not fits:
        raise InputError(f"{path}: its tensors, classes or prior do not fit its model")
    return checkpoint


def _parts_fit(checkpoint: Checkpoint) -> bool:
    """Whether the parts belong together. The model is laid out without memory for its weights."""
    model = checkpoint.model
    with torch.device("meta"):
        expected = build(model).state_dict()
    state = checkpoint.state
    return (
        state.keys() == expected.keys()
        and all(
            state[k].shape == t.shape and state[k].dtype == t.dtype for k, t in expected.items()
        )
        and checkpoint.prior.latent_dim == model.latent_dim
        and (checkpoint.prior.kind != "class_gmm" or checkpoint.prior.rows == model.classes + 1)
        and len(checkpoint.classes) == model.classes
        and tuple(checkpoint.examples.shape[1:]) == model.image_shape
        and checkpoint.examples.dtype == torch.uint8
        and _labels_fit(checkpoint)
        and all(isinstance(name, str) for name in checkpoint.classes)
        and isinstance(checkpoint.facts, dict)
        and _sigma_fits(checkpoint)
    )


def _sigma_fits(checkpoint: Checkpoint) -> bool:
    sigma = checkpoint.sigma
    if checkpoint.train.objective != "gaussian":
        return sigma is None
    return type(sigma) is float and 0 < sigma < inf


def _labels_fit(checkpoint: Checkpoint) -> bool:
    labels = checkpoint.example_labels
    if labels is None:
        return True
    fits = labels.dtype == torch.int64 and labels.shape == checkpoint.examples.shape[:1]
    return fits and bool(((labels >= 0) & (labels <= checkpoint.model.classes)).all())
