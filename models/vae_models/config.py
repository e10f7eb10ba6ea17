"""What a model is made of: one frozen record, stored in every checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Family = Literal["ae", "vae", "cvae"]
Backbone = Literal["mlp", "conv"]
LabelJoin = Literal["add", "mean", "product", "concat", "film"]
EncoderJoin = Literal["none", "concat", "film"]


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model.

    Attributes:
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        latent_dim: D, the length of a code.
        classes: number of classes K; 0 unless the family is `cvae`.
        backbone: `mlp` (flattened pixels) or `conv` (residual blocks on the picture).
        hidden: widths of the encoder's hidden layers for `mlp`, mirrored in the decoder; for
            `conv` the channels at each resolution below the image's own, finest first.
        relu_code: put Linear(·, D) and ReLU behind the hidden layers, as the reference recipe does:
            an AE's code is then never negative, and a VAE's heads read that narrow layer.
        label_join: how the label meets the code in the decoder. `add`, `mean` and `product` join a
            projection of the label to z, `concat` puts the two side by side, `film` scales and
            shifts every hidden layer (Perez et al. 2018, arXiv 1709.07871).
        encoder_join: how the encoder sees the label: `none`, `concat` or `film`.
        null_label: learn a row for "no label" beside the classes. Without it, no label means the
            mean of all classes' rows.
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
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise ValueError(f"image_shape is {self.image_shape}, expected (C, H, W), each ≥ 1")
        if not self.hidden or min(self.hidden) < 1 or self.latent_dim < 1:
            raise ValueError(
                f"hidden is {self.hidden} and latent_dim {self.latent_dim}, expected each ≥ 1"
            )
        if (self.family == "cvae") != (self.classes > 0):
            raise ValueError(f"family {self.family} with {self.classes} classes: cvae needs ≥ 1")
        if self.backbone == "conv" and (self.relu_code or any(c % 8 for c in self.hidden)):
            raise ValueError(f"conv needs hidden in multiples of 8 and no relu_code: {self.hidden}")

    @property
    def pixels(self) -> int:
        """C·H·W."""
        c, h, w = self.image_shape
        return c * h * w

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and lists: what a checkpoint and a manifest hold."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: an unknown field or a value outside its range.
        """
        unknown = set(data) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown model config fields {sorted(unknown)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


_ALLOWED = {
    "family": get_args(Family),
    "backbone": get_args(Backbone),
    "label_join": get_args(LabelJoin),
    "encoder_join": get_args(EncoderJoin),
}
