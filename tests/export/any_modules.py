"""Custom modules like those of users: wrapped, cached, conditional, with separate heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

K = 10


class Plain(nn.Module):
    """Fully connected, 8x8 images, four latent dimensions."""

    def __init__(self, dim: int = 4, extra: int = 0) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(64 + extra, 2 * dim), nn.Linear(dim + extra, 64)

    def encode(self, x: Tensor) -> Any:
        return self.down(x.flatten(1)).chunk(2, 1)

    def decode(self, z: Tensor) -> Any:
        return self.up(z).sigmoid().view(-1, 1, 8, 8)

    def forward(self, x: Tensor) -> Any:
        mu, log_var = self.encode(x)
        return self.decode(mu + torch.randn_like(mu) * (0.5 * log_var).exp()), mu, log_var


class SelfAttention(Plain):
    """Attention over the rows of the image, as in a patch encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)

    def encode(self, x: Tensor) -> Any:
        return super().encode(self.rows(x.squeeze(1)))


class PixelLayer(Plain):
    """A linear layer per pixel, written with the pixels folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.pixel = nn.Linear(1, 1)

    def decode(self, z: Tensor) -> Any:
        image = super().decode(z)
        return self.pixel(image.reshape(-1, 1)).reshape(image.shape).clamp(0, 1)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[0])


class LongShortTermMemory(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.LSTM(8, 8, batch_first=True)

    def encode(self, x: Tensor) -> Any:
        return super().encode(self.rows(x.squeeze(1))[0])


class Cached(Plain):
    """A module that keeps its last results in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Tensor] = []
        self.decode(self.encode(torch.rand(2, 1, 8, 8))[0]).sum().backward()

    def encode(self, x: Tensor) -> Any:
        self.kept = list(super().encode(x))
        return tuple(self.kept)


class Sampled(Plain):
    """`encode` returns a random sample after mu and log_var."""

    def encode(self, x: Tensor) -> Any:
        mu, log_var = super().encode(x)
        return mu, log_var, mu + torch.randn_like(mu) * (0.5 * log_var).exp()

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[2])


class Casts(Plain):
    """Computes a part in float64, and casts back to float32."""

    def decode(self, z: Tensor) -> Any:
        return super().decode((3 * z.double()).tanh().float())


class Cancels(Plain):
    """Relies on float64: float32 rounds all latents to multiples of a half."""

    def decode(self, z: Tensor) -> Any:
        return super().decode((z.double() + 5e6 - 5e6).float())


class Doubled(Plain):
    """Has float64 weights, and casts its input."""

    def __init__(self) -> None:
        super().__init__()
        self.double()

    def encode(self, x: Tensor) -> Any:
        return super().encode(x.to(torch.float64))


class Flattened(Plain):
    """A module that takes and returns rows of 64 pixels, as in PyTorch's own example."""

    def encode(self, x: Tensor) -> Any:
        return self.down(x).chunk(2, 1)

    def decode(self, z: Tensor) -> Any:
        return self.up(z).sigmoid()

    def forward(self, x: Tensor) -> Any:
        mu, log_var = self.encode(x.view(-1, 64))
        return self.decode(mu), mu, log_var


class Heads(nn.Module):
    """A trunk called `encoder`, and separate layers that compute mu and log_var."""

    def __init__(self, between: bool = False) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh())
        self.to_mu, self.to_log_var = nn.Linear(16, 4), nn.Linear(16, 4)
        self.from_z = nn.Linear(4, 4) if between else None
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: Tensor) -> Any:
        hidden = self.encoder(x)
        z = self.to_mu(hidden)
        return {"log_var": self.to_log_var(hidden), "mu": z, "recon_x": self.decoder(
            z if self.from_z is None else self.from_z(z))}  # fmt: skip


class UnnamedHeads(nn.Module):
    """A convolutional trunk, and separate layers whose names do not tell mu from log_var."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3, 2, 1), nn.SiLU())
        self.fc1, self.fc2 = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x: Tensor) -> Any:
        hidden = self.encoder(x).flatten(1)
        mu, log_var = self.fc1(hidden), self.fc2(hidden)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * log_var).exp()), mu, log_var


class Halves(nn.Module):
    """Parts called `enc` and `dec`; mu and log_var are the two halves of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Conv2d(1, 4, 3, 2, 1)
        self.dec = nn.Sequential(nn.ConvTranspose2d(2, 1, 2, 2), nn.Sigmoid())

    def forward(self, x: Tensor) -> Any:
        mu, log_var = self.enc(x).chunk(2, dim=1)
        return self.dec(mu + torch.randn_like(mu) * (0.5 * log_var).exp())


class HeadsInReverse(UnnamedHeads):
    """The layer that computes log_var comes first."""

    def forward(self, x: Tensor) -> Any:
        return self.decoder(self.fc2(self.encoder(x).flatten(1)))


class Rescaled(Plain):
    """A module whose `forward` includes a step that `decode` omits."""

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[0]) * 0.5


class Signed(Plain):
    """Input and output pixels in [-1, 1], and an output that overshoots."""

    def decode(self, z: Tensor) -> Any:
        return 1.4 * self.up(z).tanh().view(-1, 1, 8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.encode(x)[0])


class OneHot(Plain):
    """Takes labels as one-hot rows."""

    def __init__(self) -> None:
        super().__init__(extra=K)

    def encode(self, x: Tensor, y: Tensor) -> Any:
        return self.down(torch.cat([x.flatten(1), y], 1)).chunk(2, 1)

    def decode(self, z: Tensor, y: Tensor) -> Any:
        return self.up(torch.cat([z, y], 1)).sigmoid().view(-1, 1, 8, 8)

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.decode(self.encode(x, y)[0], y)


class Indices(OneHot):
    """Takes labels as indices and makes the rows itself; the label comes first, by keyword."""

    def encode(self, image: Tensor, *, digit_class: Tensor) -> Any:
        return super().encode(image, F.one_hot(digit_class, K).float())

    def decode(self, label: Tensor, latents: Tensor) -> Any:
        return super().decode(latents, F.one_hot(label, num_classes=K).float())

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.decode(y, self.encode(x, digit_class=y)[0])


def scattered(label: Tensor) -> Tensor:
    """One-hot rows as people write them by hand, with a check that cannot be traced."""
    assert torch.max(label).item() < K
    rows = torch.zeros(label.size(0), K)
    rows.scatter_(1, label.unsqueeze(1), 1)
    return rows


def from_identity(label: Tensor) -> Tensor:
    return torch.eye(K)[label]


def compared(label: Tensor) -> Tensor:
    return (label.unsqueeze(1) == torch.arange(K)).float()


class ByHand(OneHot):
    """Takes labels as indices and makes the rows without `F.one_hot`."""

    def __init__(self, rows: Callable[[Tensor], Tensor] = scattered) -> None:
        super().__init__()
        self.rows = rows

    def encode(self, x: Tensor, c: Tensor) -> Any:
        return super().encode(x, self.rows(c))

    def decode(self, z: Tensor, c: Tensor) -> Any:
        return super().decode(z, self.rows(c))


class Unlabelled(Plain):
    """A model without labels whose methods have a parameter for them all the same."""

    def encode(self, x: Tensor, c: Tensor | None) -> Any:
        assert c is None
        return super().encode(x)

    def decode(self, z: Tensor, c: Tensor | None) -> Any:
        assert c is None
        return super().decode(z)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Any:
        return self.decode(self.encode(x, c)[0], c)


class Wrapper(nn.Module):
    """A wrapper that a training framework puts around a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class Spatial(nn.Module):
    """A convolutional VAE whose latents keep their height and width."""

    def __init__(self, channels: int, latents: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(channels, 2 * latents, 2, 2)
        self.up = nn.ConvTranspose2d(latents, channels, 2, 2)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mu, log_var = self.down(x).chunk(2, 1)
        return mu, log_var - 6

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        return self.up(z).sigmoid()
