"""Named model configs: the reference recipe, and the better defaults."""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Any

from .config import Backbone, Family, ModelConfig

PRESETS = ("default", "best", "reference")
_FINEST = {"default": 32, "best": 64}  # channels at the finest resolution


def preset(
    name: str, family: Family, image_shape: tuple[int, int, int], classes: int = 0, **overrides: Any
) -> ModelConfig:
    """Build the config of a preset, with any field overridden.

    Args:
        name: `reference` (one hidden layer of 256, 8 latent dimensions after a ReLU, label added to
            z), `default` (convolutions, FiLM in encoder and decoder, a null label) or `best` (the
            same at twice the width, for longer training).
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        classes: number of classes; ignored unless the family is `cvae`.
        overrides: fields of `ModelConfig`; None keeps the preset's value.

    Raises:
        ValueError: the preset is unknown, or `ModelConfig` refuses the combination.
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
    """Channels per resolution, finest first; halve until the shorter side is 4 to 7."""
    if backbone == "mlp":
        return (16 * finest, 8 * finest)
    halvings = max(1, int(log2(min(image_shape[1:]) / 4)))
    return tuple(min(finest * 2**i, 2 * finest) for i in range(halvings))
