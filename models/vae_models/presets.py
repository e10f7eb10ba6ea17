"""Named model shapes: the tutorial's recipe to the letter, and the one to use."""

from __future__ import annotations

from dataclasses import replace
from math import log2
from typing import Any

from .config import Family, ModelConfig

PRESETS = ("default", "reference")


def preset(
    name: str, family: Family, image_shape: tuple[int, int, int], classes: int = 0, **overrides: Any
) -> ModelConfig:
    """The config of a preset, with any field overridden.

    Args:
        name: `reference` (one hidden layer of 256, ReLU'd code of 8, label added to z) or `default`
            (convolutions, heads on the hidden layer, FiLM in encoder and decoder, a null label).
        family: `ae`, `vae` or `cvae`.
        image_shape: (C, H, W).
        classes: number of classes, used by `cvae` alone.
        overrides: fields of `ModelConfig`; those that are None are left as the preset has them.

    Raises:
        ValueError: an unknown preset, or a combination that `ModelConfig` refuses.
    """
    if name not in PRESETS:
        raise ValueError(f"preset is {name!r}, expected one of {PRESETS}")
    conditional = family == "cvae"
    changes = {key: value for key, value in overrides.items() if value is not None}
    backbone = changes.get("backbone", "conv" if name == "default" else "mlp")
    base = ModelConfig(family, image_shape, classes=classes if conditional else 0)
    if name == "reference":
        config = replace(base, latent_dim=8, relu_code=True, label_join="add")
    else:
        config = replace(
            base,
            hidden=_channels(image_shape) if backbone == "conv" else (512, 256),
            encoder_join="film" if conditional else "none",
            null_label=conditional,
        )
    return replace(config, **changes | {"backbone": backbone})


def _channels(image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Channels of each resolution, finest first: halve until the shorter side is 4 to 7."""
    halvings = max(1, int(log2(min(image_shape[1:]) / 4)))
    return tuple(min(32 * 2**i, 64) for i in range(halvings))
