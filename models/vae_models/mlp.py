"""Fully connected encoder and decoder trunks."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .config import ModelConfig


def film(x: Tensor, scale_shift: Tensor) -> Tensor:
    """Return (1 + scale)·x + shift per feature or channel; `scale_shift` is f32[N, 2·features]."""
    per_feature = (-1,) + (1,) * (x.dim() - 2)
    scale, shift = (torch.unflatten(s, 1, per_feature) for s in scale_shift.chunk(2, 1))
    return x * (1 + scale) + shift


def film_parts(label: Tensor | None, widths: list[int], join: str) -> list[Tensor | None]:
    """Split the label embedding into one tensor per layer or block (each is None without FiLM)."""
    if label is None or join != "film":
        return [None] * len(widths)
    return list(torch.split(label, widths, 1))


class MLPTrunk(nn.Module):
    """Linear layers, each followed by ReLU, with optional conditioning by concatenation or FiLM."""

    def __init__(self, widths: tuple[int, ...], join: str, label_width: int = 0) -> None:
        """Create the layers.

        Args:
            widths: the width of the input, then the width of each layer.
            join: `concat` adds the label to the input, `film` conditions every layer, and any
                other value ignores the label.
            label_width: width of the label embedding for `concat`.
        """
        super().__init__()
        self.join = join
        extra = label_width if join == "concat" else 0
        first, *others = widths
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((first + extra, *others)))
        self.film_widths = [2 * width for width in others]

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Map x f32[N, widths[0]] and the label embedding to f32[N, widths[-1]]."""
        parts = film_parts(label, self.film_widths, self.join)
        if self.join == "concat" and label is not None:
            x = torch.cat([x, label], 1)
        for layer, part in zip(self.layers, parts, strict=True):
            x = layer(x)
            x = torch.relu_(x if part is None else film(x, part))
        return x


class MLPEncoder(nn.Module):
    """A fully connected encoder from flattened pixels to features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        code = (config.latent_dim,) if config.relu_code else ()
        widths = (config.pixels, *config.hidden, *code)
        self.label_width = config.classes if config.encoder_join == "concat" else 0
        self.trunk = MLPTrunk(widths, config.encoder_join, self.label_width)
        if config.encoder_join == "film":
            self.label_width = sum(self.trunk.film_widths)
        self.features = widths[-1]

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Map images f32[N, C, H, W] and label rows f32[N, label_width] to f32[N, features]."""
        features: Tensor = self.trunk(image.flatten(1), label)
        return features


class MLPDecoder(nn.Module):
    """A fully connected decoder from z to logits; its hidden layers mirror the encoder's."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = (config.latent_dim, *reversed(config.hidden))
        self.label_width = config.latent_dim
        self.trunk = MLPTrunk(widths, config.decoder_join, self.label_width)
        if config.decoder_join == "film":
            self.label_width = sum(self.trunk.film_widths)
        self.image_shape = config.image_shape
        self.head = nn.Linear(widths[-1], config.pixels)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z f32[N, D] and label rows f32[N, label_width] to logits f32[N, C, H, W]."""
        logits: Tensor = self.head(self.trunk(z, label))
        return torch.unflatten(logits, 1, self.image_shape)
