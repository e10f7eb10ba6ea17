"""Residual convolutional encoder and decoder trunks, for any H, W and any number of channels.

Each resolution has one residual block (He et al. 2016) of GroupNorm (Wu & He 2018), SiLU and 3x3
convolutions. The encoder rounds odd sizes up when it halves them, and the decoder crops after
doubling, so the output always has the size of the input.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import GROUPS, ModelConfig
from .mlp import film, film_parts


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a label scales and shifts the second norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Map f32[N, C, H, W] to the same shape; `label` is f32[N, 2·C] or None."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        h = h if label is None else film(h, label)
        out: Tensor = x + self.conv2(F.silu(h))
        return out


def sizes(image_shape: tuple[int, int, int], levels: int) -> list[tuple[int, int]]:
    """Return the image's (H, W), then its (H, W) after each of `levels` halvings, rounded up."""
    h, w = image_shape[1:]
    return [(-(-h // 2**i), -(-w // 2**i)) for i in range(levels + 1)]


class ConvEncoder(nn.Module):
    """An encoder to features: per resolution, a strided convolution and a residual block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.hidden
        h, w = sizes(config.image_shape, len(channels))[-1]
        self.join = config.encoder_join
        self.stem = nn.Conv2d(config.image_shape[0], channels[0], 5, stride=2, padding=2)
        self.downs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels)
        )
        self.blocks = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.film_widths = [2 * c for c in channels]
        widths = {"none": 0, "concat": config.classes, "film": sum(self.film_widths)}
        self.label_width = widths[self.join]
        self.features = channels[-1] * h * w + (self.label_width if self.join == "concat" else 0)

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Map images f32[N, C, H, W] and label rows f32[N, label_width] to f32[N, features]."""
        x = image
        parts = film_parts(label, self.film_widths, self.join)
        for down, block, part in zip([self.stem, *self.downs], self.blocks, parts, strict=True):
            x = block(down(x), part)
        features = F.silu(x).flatten(1)
        if self.join == "concat" and label is not None:
            features = torch.cat([features, label], 1)
        return features


class ConvDecoder(nn.Module):
    """A decoder from z to image logits: per resolution, a residual block and an upsampling step.

    Upsampling is a convolution to four times the channels followed by a pixel shuffle (Shi et al.
    2016), because some runtimes run transposed convolutions slowly or incorrectly. No layer runs at
    full resolution, where even narrow layers are slow and add little quality: the head predicts 2x2
    pixels for each position at half resolution, and the last shuffle arranges them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = tuple(reversed(config.hidden))
        self.sizes = sizes(config.image_shape, len(channels))[::-1]
        self.join = config.decoder_join
        self.film_widths = [2 * c for c in channels]
        self.label_width = sum(self.film_widths) if self.join == "film" else config.latent_dim
        width = config.latent_dim + (self.label_width if self.join == "concat" else 0)
        self.start = (channels[0], *self.sizes[0])
        self.entry = nn.Linear(width, channels[0] * self.sizes[0][0] * self.sizes[0][1])
        self.blocks = nn.ModuleList(ResidualBlock(c) for c in channels)
        self.ups = nn.ModuleList(nn.Conv2d(a, 4 * b, 1) for a, b in pairwise(channels))
        self.norm = nn.GroupNorm(GROUPS, channels[-1])
        self.wide = nn.Conv2d(channels[-1], 2 * channels[-1], 3, padding=1)
        self.head = nn.Conv2d(2 * channels[-1], 4 * config.image_shape[0], 3, padding=1)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map z f32[N, D] and label rows f32[N, label_width] to logits f32[N, C, H, W]."""
        parts = film_parts(label, self.film_widths, self.join)
        if self.join == "concat" and label is not None:
            z = torch.cat([z, label], 1)
        x = self.blocks[0](self.entry(z).unflatten(1, self.start), parts[0])
        for up, block, part, size in zip(
            self.ups, self.blocks[1:], parts[1:], self.sizes[1:-1], strict=True
        ):
            x = block(_double(up(x), size), part)
        x = F.silu(self.wide(F.silu(self.norm(x))))
        return _double(self.head(x), self.sizes[-1])


def _double(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Map f32[N, 4·C, h, w] to f32[N, C, *size], where `size` is at most (2h, 2w)."""
    x = F.pixel_shuffle(x, 2)
    return x if x.shape[2:] == size else x[:, :, : size[0], : size[1]]
