"""The model configuration (a frozen dataclass stored in every checkpoint) and its presets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import log2
from typing import Any, Literal, get_args

Family = Literal["ae", "vae", "cvae"]
Backbone = Literal["mlp", "conv"]
LabelJoin = Literal["add", "mean", "product", "concat", "film"]
EncoderJoin = Literal["none", "concat", "film"]

MAX_WIDTH = 65_536  # limit for layer widths, image sides, latent dimensions and classes
GROUPS = 8  # groups per group norm; the channels of `conv` must be multiples of this
PRESETS = ("default", "best", "reference")
_FINEST = {"default": 32, "best": 64}  # channels at the finest resolution


@dataclass(frozen=True)
class ModelConfig:
    """The architecture of a model.

    Attributes:
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        latent_dim: D, the number of latent dimensions.
        classes: number of classes K; 0 unless the family is `cvae`.
        backbone: `mlp` (flattened pixels) or `conv` (residual blocks on the image).
        hidden: for `mlp`, the widths of the encoder's hidden layers, mirrored in the decoder; for
            `conv`, the channels at each resolution below the image's own, finest first.
        relu_code: add Linear(·, D) and ReLU after the hidden layers, as in the reference recipe.
            An AE's z is then never negative, and a VAE's heads take this D-wide layer as input.
        label_join: how the decoder of a `cvae` combines the label with z. `add`, `mean` and
            `product` combine z with a projection of the label; `concat` concatenates the two;
            `film` scales and shifts every hidden layer (Perez et al. 2018, arXiv 1709.07871).
        encoder_join: how the encoder receives the label: `none`, `concat` or `film`.
        null_label: learn an embedding for "no label" in addition to those of the classes. If
            False, the embedding of "no label" is the mean of the classes' embeddings.

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
        # A group norm over a single number always outputs 0.
        _, h, w = self.image_shape
        if any(max(h, w) <= 2**i and c == GROUPS for i, c in enumerate(self.hidden, 1)):
            raise ValueError(
                f"hidden is {self.hidden}: once {h}x{w} is halved to 1x1, conv needs more than "
                f"{GROUPS} channels"
            )

    @property
    def decoder_join(self) -> str:
        """How the decoder is conditioned: `label_join`, or `none` if the model has no labels."""
        return self.label_join if self.family == "cvae" else "none"

    @property
    def pixels(self) -> int:
        """The number of values per image, C·H·W."""
        c, h, w = self.image_shape
        return c * h * w

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as stored in checkpoints and manifests."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelConfig:
        """Build a config from the output of `to_dict`.

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
    """Return whether all values are integers from 1 to `MAX_WIDTH`; bools do not count."""
    return all(type(v) is int and 1 <= v <= MAX_WIDTH for v in values)


_ALLOWED = {
    "family": get_args(Family),
    "backbone": get_args(Backbone),
    "label_join": get_args(LabelJoin),
    "encoder_join": get_args(EncoderJoin),
}


def preset(
    name: str, family: Family, image_shape: tuple[int, int, int], classes: int = 0, **overrides: Any
) -> ModelConfig:
    """Build the config of a preset; keyword arguments override its fields.

    Args:
        name: `reference` (one hidden layer of 256, 8 latent dimensions after a ReLU, label added to
            z), `default` (convolutions, FiLM in encoder and decoder, a null label) or `best` (like
            `default` but twice as wide, for longer training).
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        classes: number of classes; ignored unless the family is `cvae`.
        overrides: fields of `ModelConfig`; None keeps the preset's value.

    Raises:
        ValueError: the preset is unknown, or `ModelConfig` rejects the combination.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}, expected one of {PRESETS}")
    conditional = family == "cvae"
    changes = {key: value for key, value in overrides.items() if value is not None}
    backbone = changes.get("backbone", "mlp" if name == "reference" else "conv")
    base = ModelConfig(family, image_shape, classes=classes if conditional else 0)
    if name == "reference":
        config = replace(base, latent_dim=8, relu_code=True, label_join="add")
    else:
        config = replace(
            base,
            hidden=_hidden(image_shape, backbone, _FINEST[name]),
            encoder_join="film" if conditional else "none",
            null_label=conditional,
        )
    return replace(config, **changes | {"backbone": backbone})


def _hidden(image_shape: tuple[int, int, int], backbone: Backbone, finest: int) -> tuple[int, ...]:
    """Choose the hidden layers; `conv` halves the image until its shorter side is 4 to 7 pixels."""
    if backbone == "mlp":
        return (16 * finest, 8 * finest)
    halvings = max(1, int(log2(min(image_shape[1:]) / 4)))
    return tuple(min(finest * 2**i, 2 * finest) for i in range(halvings))
