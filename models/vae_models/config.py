"""The shape of a model: one frozen dataclass, stored in every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Family = Literal["ae", "vae", "cvae"]
Backbone = Literal["mlp", "conv"]
LabelJoin = Literal["add", "mean", "product", "concat", "film"]
EncoderJoin = Literal["none", "concat", "film"]

MAX_WIDTH = 65_536  # of any layer, image side, latent vector or list of classes
GROUPS = 8  # of every group norm; the channels of `conv` are multiples of it


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model.

    Attributes:
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        latent_dim: D, the number of latent dimensions.
        classes: number of classes K; 0 unless the family is `cvae`.
        backbone: `mlp` (flattened pixels) or `conv` (residual blocks on the image).
        hidden: widths of the encoder's hidden layers for `mlp`, mirrored in the decoder; for
            `conv` the channels at each resolution below that of the image, finest first.
        relu_code: put Linear(·, D) and ReLU after the hidden layers, as the reference recipe does.
            The z of an AE is then never negative, and the heads of a VAE read that narrow layer.
        label_join: how the decoder of a `cvae` combines the label with z. `add`, `mean` and
            `product` combine z with a projection of the label, `concat` concatenates the two,
            `film` scales and shifts every hidden layer (Perez et al. 2018, arXiv 1709.07871).
        encoder_join: how the encoder sees the label: `none`, `concat` or `film`.
        null_label: learn an embedding for "no label" in addition to those of the classes. Without
            it, "no label" is the mean of the classes' embeddings.

    Raises:
        ValueError: a value is out of range, or two values contradict each other.
    """

    family: Family
    image_shape: tuple[int, int, int]
    latent_dim: int = 16
    classes: int = 0
    backbone: Backbone = "mlp"
    hidden: tuple[int, ...] = (256,)
    relu_code: bool = False
    label_join: LabelJoin = "film"
    encoder_join: EncoderJoin = "none"
    null_label: bool = False

    def __post_init__(self) -> None:
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {allowed}")
        if len(self.image_shape) != 3 or not _whole(self.image_shape):
            raise ValueError(
                f"image_shape is {self.image_shape}, expected (C, H, W), each 1 to {MAX_WIDTH}"
            )
        if not self.hidden or not _whole(self.hidden):
            raise ValueError(f"hidden is {self.hidden}, expected widths, each 1 to {MAX_WIDTH}")
        if not _whole([self.latent_dim]):
            raise ValueError(f"latent_dim is {self.latent_dim}, expected 1 to {MAX_WIDTH}")
        self._check_labels()
        self._check_backbone()

    def _check_labels(self) -> None:
        if self.family == "cvae":
            if not _whole([self.classes]):
                raise ValueError(f"classes is {self.classes}, expected 1 to {MAX_WIDTH} for a cvae")
        elif self.classes or self.encoder_join != "none" or self.null_label:
            raise ValueError(
                f"classes is {self.classes}, encoder_join {self.encoder_join!r}, null_label "
                f"{self.null_label}: only a cvae has labels, this is {self.family!r}"
            )

    def _check_backbone(self) -> None:
        if self.backbone != "conv":
            return
        if self.relu_code:
            raise ValueError("relu_code needs the mlp backbone, this is 'conv'")
        if any(c % GROUPS for c in self.hidden):
            raise ValueError(f"hidden is {self.hidden}, conv needs multiples of {GROUPS}")
        # A group norm over a single number always gives 0.
        _, h, w = self.image_shape
        if any(max(h, w) <= 2**i and c == GROUPS for i, c in enumerate(self.hidden, 1)):
            raise ValueError(
                f"hidden is {self.hidden}: where halving has left 1x1 of {h}x{w}, conv needs more "
                f"than {GROUPS} channels"
            )

    @property
    def decoder_join(self) -> str:
        """How the decoder is conditioned: `label_join`, or `none` for a model without labels."""
        return self.label_join if self.family == "cvae" else "none"

    @property
    def pixels(self) -> int:
        """Numbers per image: C·H·W."""
        c, h, w = self.image_shape
        return c * h * w

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists, as checkpoints and manifests store them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Inverse of `to_dict`.

        Raises:
            ValueError: a field is unknown, missing or out of range.
        """
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model config fields {sorted(unknown)}")
        missing = {"family", "image_shape"} - set(data)
        if missing:
            raise ValueError(f"model config without {sorted(missing)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


def _whole(values: Sequence[object]) -> bool:
    """Whether all are whole numbers from 1 to `MAX_WIDTH`; a bool does not count."""
    return all(type(v) is int and 1 <= v <= MAX_WIDTH for v in values)


_ALLOWED = {
    "family": get_args(Family),
    "backbone": get_args(Backbone),
    "label_join": get_args(LabelJoin),
    "encoder_join": get_args(EncoderJoin),
}
