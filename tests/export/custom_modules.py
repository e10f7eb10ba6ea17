"""Custom modules with different calling conventions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.nn import functional as F


class Upsampler(nn.Module):
    """BatchNorm, Dropout in training mode, Upsample, GroupNorm, PixelShuffle; encodes to a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.LeakyReLU(),
            nn.Dropout(0.5), nn.Flatten(), nn.Linear(8 * 16, 32), nn.ReLU(),
        )  # fmt: skip
        self.mean, self.log_variance = nn.Linear(32, 5), nn.Linear(32, 5)
        self.start = nn.Linear(5, 16 * 2 * 2)
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(16, 16, 3, padding=1),
            nn.GroupNorm(4, 16), nn.SiLU(), nn.Dropout2d(0.3),
            nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(16, 4, 3, padding=1),
            nn.PixelShuffle(2), nn.AvgPool2d(2),
        )  # fmt: skip

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.mean(h), self.log_variance(h)

    def decode(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.up(self.start(z).view(-1, 16, 2, 2)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.decode(z), mean, log_variance


class ModelOutput(dict[str, Any]):
    """A dictionary whose items are also attributes, as large libraries return."""

    __getattr__ = dict.__getitem__


class Library(nn.Module):
    """`encoder` and `decoder` return objects; one holds an unused random sample, one logits."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 6)

        def forward(self, x: Tensor) -> ModelOutput:
            mean, spread = self.linear(x.flatten(1)).chunk(2, 1)
            sample = mean + torch.randn_like(mean) * spread.exp()
            return ModelOutput(embedding=mean, log_covariance=spread, sample=sample)

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 64)

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.linear(z).reshape(z.shape[0], 1, 8, 8))

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = self.Encoder(), self.Decoder()


class Distributions(nn.Module):
    """Encodes and decodes to torch.distributions; latents are small images, pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 4, 4, stride=4)
        self.up = nn.ConvTranspose2d(2, 1, 4, stride=4)

    def encode(self, x: Tensor) -> Independent:
        loc, scale = self.down(x).chunk(2, 1)
        return Independent(Normal(loc, F.softplus(scale) + 1e-3), 3)

    def decode(self, z: Tensor) -> Normal:
        return Normal(torch.tanh(self.up(z)), 0.1)


class Conditional(nn.Module):
    """Encoder and decoder embed a label; encode returns plain latents."""

    def __init__(self, rows: int = 10) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, 4)
        self.inner, self.outer = nn.Linear(64 + 4, 3), nn.Linear(3 + 4, 64)

    def encode(self, x: Tensor, labels: Tensor) -> Tensor:
        return self.inner(torch.cat([x.flatten(1), self.table(labels)], 1))

    def decode(self, z: Tensor, labels: Tensor) -> Tensor:
        joined = torch.cat([z, self.table(labels)], 1)
        return torch.sigmoid(self.outer(joined)).unflatten(1, (1, 8, 8))


class OneHot(nn.Module):
    """Only the decoder takes a label, as one-hot floats; encode returns (mu, std)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 6), nn.Linear(3 + 10, 64)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, std = self.inner(x.flatten(1)).chunk(2, 1)
        return mu, F.softplus(std)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.sigmoid(self.outer(torch.cat([z, y], 1))).unflatten(1, (1, 8, 8))


class Sampling(Library):
    """`encode` returns a random sample."""

    def encode(self, x: Tensor) -> Tensor:
        mean = self.encoder.linear(x.flatten(1))[:, :3]
        eps = torch.randn_like(mean)
        return mean + eps


class BatchStatistics(Library):
    """Each image's latents depend on the other images in the batch."""

    def encode(self, x: Tensor) -> Tensor:
        z = self.encoder.linear(x.flatten(1))[:, :3]
        return z - z.mean(0)


def upsampler() -> nn.Module:
    """A factory for --model."""
    torch.manual_seed(0)
    return Upsampler()


def pair() -> tuple[nn.Module, nn.Module]:
    """A factory that returns an encoder and a decoder."""
    library = Library()
    return library.encoder, library.decoder


def nothing() -> SimpleNamespace:
    """A factory that returns no module."""
    return SimpleNamespace()
