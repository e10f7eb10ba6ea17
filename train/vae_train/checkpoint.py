"""A checkpoint: one file with the result of a training run and everything that an export needs."""

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

from .checkpoint_file import MALFORMED, read_checkpoint_file, write_checkpoint_file
from .config import TrainConfig
from .objective import Model

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained model with its configuration, prior, examples and metadata.

    Attributes:
        model: the model's config.
        state: the model's state dict.
        train: the training config.
        prior: the fitted latent prior.
        classes: class names; empty for an unlabelled model.
        metadata: the data set, command, epochs, metrics and versions, as plain values. The exporter
            copies them to the manifest.
        examples: real images u8[≤64, C, H, W], from the test split if there is one. The exporter
            uses them to compare the outputs of its graphs with those of torch, and stores the
            results as golden vectors.
        example_labels: labels of the examples, i64[≤64]; None if there are no labels.
        sigma: standard deviation of the decoder's Gaussian likelihood, for pixels in [0, 1]; None
            unless the objective is `gaussian`.
        normality: the content of a bundle's `normality.npz`; empty if too few images were held out
            to say what is normal.
        sha256: checksum of the file that the checkpoint was read from; empty if it was not read
            from a file.
    """

    model: ModelConfig
    state: dict[str, Tensor]
    train: TrainConfig
    prior: Prior
    examples: Tensor
    example_labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    sigma: float | None = None
    normality: bytes = b""
    sha256: str = ""

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.model.image_shape))
        return f"<Checkpoint {self.model.family} of {shape} images, prior {self.prior.kind}>"

    def build(self) -> Model:
        """Build the trained module, in evaluation mode on the CPU."""
        model = build(self.model)
        model.load_state_dict(self.state)
        return model.eval()


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> str:
    """Write a checkpoint atomically.

    Returns:
        The sha256 of the file.
    """
    content = {
        "format": FORMAT,
        "model": checkpoint.model.to_dict(),
        # Without a copy, torch would store the whole tensor that a view belongs to.
        "state": {name: t.detach().cpu().clone() for name, t in checkpoint.state.items()},
        "train": checkpoint.train.to_dict(),
        "prior": checkpoint.prior.to_json(),
        "examples": checkpoint.examples.cpu(),
        "example_labels": checkpoint.example_labels,
        "classes": list(checkpoint.classes),
        "metadata": checkpoint.metadata,
    }
    if checkpoint.sigma is not None:
        content["sigma"] = checkpoint.sigma
    if checkpoint.normality:
        content["normality"] = torch.tensor(list(checkpoint.normality), dtype=torch.uint8)
    return write_checkpoint_file(content, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, even an untrusted one: none of its code is run, and memory use is bounded.

    Raises:
        NotFound: there is no such file.
        IntegrityError: the checksum is missing or wrong.
        InputError: the file is not a checkpoint of this project, or has a newer format.
    """
    data, sha256 = read_checkpoint_file(path)
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
            data["metadata"],
            data.get("sigma"),
            data["normality"].numpy().tobytes() if "normality" in data else b"",
            sha256,
        )
        consistent = _is_consistent(checkpoint)
    except InputError:
        raise
    except MALFORMED as error:
        raise InputError(f"{path}: not a checkpoint that vae-train wrote") from error
    if not consistent:
        raise InputError(f"{path}: its tensors, classes or prior do not fit its model config")
    return checkpoint


def _is_consistent(checkpoint: Checkpoint) -> bool:
    """Return whether weights, prior, classes and examples fit the model config."""
    model = checkpoint.model
    # On the meta device, even a huge model takes no memory.
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
        and isinstance(checkpoint.metadata, dict)
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
