"""Autoencoders as plain torch modules, built from a frozen config. No file access, no training."""

from __future__ import annotations

from .autoencoder import AE
from .config import PRESETS, Family, LabelJoin, ModelConfig, preset
from .cvae import CVAE
from .output import Output
from .vae import VAE

__all__ = [
    "AE",
    "CVAE",
    "PRESETS",
    "VAE",
    "Family",
    "LabelJoin",
    "ModelConfig",
    "Output",
    "build",
    "preset",
]


def build(config: ModelConfig) -> AE | VAE | CVAE:
    """Build the model that `config` describes, with weights drawn from torch's global generator."""
    families: dict[Family, type[AE | VAE | CVAE]] = {"ae": AE, "vae": VAE, "cvae": CVAE}
    return families[config.family](config)
