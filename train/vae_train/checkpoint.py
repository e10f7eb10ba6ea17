"""Checkpoints: torch's own zip of tensors and plain values, with the sha256 of its bytes inside.

The digest stands in the zip's comment, the last bytes of the file, and covers all bytes before it.
`torch.load` ignores it; `load_checkpoint` refuses a file whose digest is missing or wrong, because
torch itself does not notice flipped bits.
"""

from __future__ import annotations

import hashlib
import io
import struct
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from vae_models import ModelConfig, build
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.files import read_bytes, write_atomic
from vae_runtime.prior import Prior

from .config import TrainConfig
from .container import check_container
from .loop import Model

FORMAT = 1
_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_ZIP = b"PK\x03\x04"  # how a checkpoint begins
# What torch.load and the records above raise on a file that some other program wrote.
_REFUSED = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError, UnpicklingError,
)  # fmt: skip


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
    buffer = io.BytesIO()
    torch.save(
        {
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
        },
        buffer,
    )
    sealed = _seal(buffer.getvalue())
    write_atomic(path, sealed)
    return hashlib.sha256(sealed).hexdigest()


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint after checking its digest and what its zip and pickle hold.

    Only tensors and plain values are unpickled.

    Raises:
        NotFound: no such file.
        IntegrityError: the bytes are not those that were written.
        InputError: not a checkpoint of this project, or of a newer format.
    """
    raw = read_bytes(path, "Train a checkpoint with vae-train.")
    _check_seal(raw, path)
    check_container(raw, path)
    try:
        data = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
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
            hashlib.sha256(raw).hexdigest(),
        )
        fits = _parts_fit(checkpoint)
    except InputError:
        raise
    except _REFUSED as error:
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
    )


def _labels_fit(checkpoint: Checkpoint) -> bool:
    labels = checkpoint.example_labels
    if labels is None:
        return True
    fits = labels.dtype == torch.int64 and labels.shape == checkpoint.examples.shape[:1]
    return fits and bool(((labels >= 0) & (labels <= checkpoint.model.classes)).all())


def _seal(raw: bytes) -> bytes:
    """Append the digest as the zip's comment; its length stands in the last two bytes before."""
    body = raw[:-2] + struct.pack("<H", _COMMENT)
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def _check_seal(raw: bytes, path: Path) -> None:
    body, comment = raw[:-_COMMENT], raw[-_COMMENT:]
    sealed = comment.startswith(_MARK)
    if not sealed and not _ZIP.startswith(raw[: len(_ZIP)]):
        raise InputError(f"{path}: not a checkpoint: neither the start nor the end of one")
    if not sealed:
        raise IntegrityError(
            f"{path}: carries no digest: truncated, or not written by vae-train. "
            "For an own model use vae-export --model."
        )
    if comment[len(_MARK) :].decode(errors="replace") != hashlib.sha256(body).hexdigest():
        raise IntegrityError(f"{path}: damaged: its bytes do not match its sha256. Copy it again.")
