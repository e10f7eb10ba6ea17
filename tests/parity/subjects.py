"""Twenty graphs for the mutation run: vae-train's models, and custom modules of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_export.graphs import Graph, graphs_of
from vae_export.parity import Arrays
from vae_models import build, preset

ROWS = 64
_D = 8  # latent dimensions of the custom decoders
_SHAPE = (3, 16, 16)


class Attention(nn.Module):
    """Self-attention over the pixels, written as plain products and a softmax."""

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, C, H, W] → f32[N, C, H, W]."""
        c, h, w = x.shape[1:]
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)
        weights = (q.transpose(1, 2) @ k * c**-0.5).softmax(2)
        return x + self.out((v @ weights.transpose(1, 2)).unflatten(2, (h, w)))


class Heads(nn.Module):
    """Multi-head attention over a sequence f32[N, L, C]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, L, C] → f32[N, L, C]."""
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=2)
        )
        found = F.scaled_dot_product_attention(q, k, v)
        return self.out(found.transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """x + body(x), or the concatenation of both."""

    def __init__(self, *body: nn.Module, concat: bool = False) -> None:
        super().__init__()
        self.body, self.concat = nn.Sequential(*body), concat

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, C, …] → f32[N, C, …], or f32[N, 2C, …]."""
        return torch.cat([x, self.body(x)], 1) if self.concat else x + self.body(x)


class Transpose(nn.Module):
    """Swap axes 1 and 2."""

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, L, C] → f32[N, C, L]."""
        return x.transpose(1, 2)


class RootMeanSquare(nn.Module):
    """Normalise the last axis by its root mean square, with an epsilon in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, …, C] → f32[N, …, C]."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


class Gated(nn.Module):
    """SwiGLU: a linear layer gated by another."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.both, self.out = nn.Linear(width, 2 * inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, C] → f32[N, C]."""
        gate, value = self.both(x).chunk(2, -1)
        return self.out(F.silu(gate) * value)


class Squeeze(nn.Module):
    """Squeeze and excite: scale channels by a function of their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weights = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 2, 1), nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Map f32[N, C, H, W] → f32[N, C, H, W]."""
        return x * self.weights(x)


def conv(inside: int, outside: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps the size of the image, divided by its stride."""
    return nn.Conv2d(inside, outside, size, stride, size // 2)


def start(channels: int, size: int) -> list[nn.Module]:
    """From latents to a small image."""
    return [nn.Linear(_D, channels * size * size), nn.Unflatten(1, (channels, size, size))]


def grouped() -> Residual:
    """A residual block with group normalisation."""
    return Residual(nn.GroupNorm(4, 16), nn.SiLU(), conv(16, 16),
                    nn.GroupNorm(4, 16), nn.SiLU(), conv(16, 16))  # fmt: skip


def mixed() -> list[nn.Module]:
    """A block of an MLP mixer for f32[N, 16, 24]."""
    positions = (Transpose(), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16), Transpose())
    channels = (nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
    return [Residual(nn.LayerNorm(24), *positions), Residual(nn.LayerNorm(24), *channels)]


def patches(*body: nn.Module) -> nn.Sequential:
    """An encoder that applies layers to a sequence of 16 patches, f32[N, 16, 24]."""
    return nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.Flatten(2), Transpose(), *body,
                         nn.Flatten(), nn.Linear(24 * 16, _D))  # fmt: skip


def transformer() -> nn.Module:
    """PyTorch's own encoder layers."""
    layer = nn.TransformerEncoderLayer(24, 4, 48, 0, "gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def up(mode: str, *, align: bool | None = None) -> nn.Module:
    """Upsampling to twice the size."""
    return nn.Upsample(scale_factor=2, mode=mode, align_corners=align)


# fmt: off
DECODERS: dict[str, Callable[[], nn.Module]] = {
    "transposed convolutions, batch norm": lambda: nn.Sequential(
        *start(16, 4), nn.ConvTranspose2d(16, 12, 4, 2, 1), nn.BatchNorm2d(12), nn.ReLU(),
        nn.ConvTranspose2d(12, 3, 4, 2, 1), nn.Tanh()),
    "residual blocks, group norm, SiLU": lambda: nn.Sequential(
        *start(16, 4), grouped(), up("nearest"), conv(16, 16), grouped(), up("nearest"),
        grouped(), conv(16, 3), nn.Sigmoid()),
    "bilinear upsampling": lambda: nn.Sequential(
        *start(16, 4), up("bilinear", align=False), conv(16, 16), nn.LeakyReLU(0.2),
        up("bilinear", align=True), conv(16, 3), nn.Sigmoid()),
    "bicubic upsampling, instance norm": lambda: nn.Sequential(
        *start(8, 4), up("bicubic", align=False), conv(8, 8), nn.InstanceNorm2d(8, affine=True),
        nn.ELU(), up("nearest"), conv(8, 3), nn.Sigmoid()),
    "pixel shuffle": lambda: nn.Sequential(
        *start(16, 4), conv(16, 32), nn.PixelShuffle(2), nn.GELU(), conv(8, 12),
        nn.PixelShuffle(2), nn.Sigmoid()),
    "attention, as in AutoencoderKL": lambda: nn.Sequential(
        *start(16, 4), grouped(), Attention(16), grouped(), up("nearest"), conv(16, 16), grouped(),
        up("nearest"), nn.GroupNorm(4, 16), nn.SiLU(), conv(16, 3), nn.Sigmoid()),
    "SwiGLU, root mean square norm": lambda: nn.Sequential(
        nn.Linear(_D, 48), *(Residual(RootMeanSquare(), Gated(48, 64)) for _ in range(3)),
        RootMeanSquare(), nn.Linear(48, 768), nn.Sigmoid(), nn.Unflatten(1, _SHAPE)),
    "24 residual blocks": lambda: nn.Sequential(
        *start(16, 4), *(grouped() for _ in range(24)), up("nearest"), up("bilinear", align=False),
        conv(16, 3), nn.Sigmoid()),
}
ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "strided convolutions, batch norm": lambda: nn.Sequential(
        conv(3, 12, stride=2), nn.BatchNorm2d(12), nn.LeakyReLU(0.1), conv(12, 16, stride=2),
        nn.BatchNorm2d(16), nn.LeakyReLU(0.1), nn.Flatten(), nn.Linear(256, _D)),
    "MLP mixer": lambda: patches(*mixed(), *mixed()),
    "transformer on patches": lambda: patches(transformer()),
    "multi-head attention": lambda: patches(Residual(nn.LayerNorm(24), Heads(24, 4))),
    "ConvNeXt": lambda: nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), Residual(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Flatten(2), Transpose(),
            nn.LayerNorm(16, eps=1e-6), nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16),
            Transpose(), nn.Unflatten(2, (4, 4))), nn.Flatten(), nn.Linear(256, _D)),
    "dense blocks, pooling": lambda: nn.Sequential(
        conv(3, 8), Residual(conv(8, 8), nn.Softplus(), concat=True), nn.AvgPool2d(3, 2, 1),
        Residual(conv(16, 16), nn.Hardswish(), concat=True), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, _D)),
    "squeeze and excite": lambda: nn.Sequential(
        conv(3, 16, stride=2), nn.ReLU(), Squeeze(16), conv(16, 16, 5, 2), nn.ReLU(), Squeeze(16),
        nn.Flatten(), nn.Linear(256, _D)),
}
# fmt: on
OURS = {
    "AE mlp": ("ae", "reference", "decoder"),
    "VAE mlp": ("vae", "reference", "encoder"),
    "CVAE mlp": ("cvae", "reference", "conditional_decoder"),
    "VAE conv": ("vae", "default", "decoder"),
    "CVAE conv": ("cvae", "default", "conditional_decoder"),
}
NAMES = (*OURS, *DECODERS, *ENCODERS)


@dataclass(frozen=True)
class Subject:
    """A graph and its input rows."""

    name: str
    graph: Graph
    rows: Arrays


def make_subject(name: str, seed: int) -> Subject:
    """Make a subject with random weights, and rows like those of an export."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    image = random.random((ROWS, *_SHAPE), dtype=np.float32)
    z = random.standard_normal((ROWS, _D)).astype(np.float32)
    if name in OURS:
        family, chosen, role = OURS[name]
        shape = _SHAPE if chosen == "default" else (1, 28, 28)
        model = build(preset(chosen, family, shape, 10, latent_dim=_D))  # type: ignore[arg-type]
        graph = next(graph for graph in graphs_of(model) if graph.role == role)
        image = np.resize(image, (ROWS, *shape))
    elif name in DECODERS:
        graph = Graph("decoder", DECODERS[name](), ("z",), ("image",))
    else:
        graph = Graph("encoder", ENCODERS[name](), ("image",), ("z",))
    _randomise(graph.module)
    values = {"image": image, "z": z, "label": np.arange(ROWS) % 11}
    return Subject(name, graph, {key: values[key] for key in graph.inputs})


@torch.no_grad()
def _randomise(module: nn.Module) -> None:
    """Give biases, scales and running statistics values as after training; freeze the module."""
    for child in module.modules():
        bias = getattr(child, "bias", None)
        if isinstance(bias, Tensor):
            bias.add_(0.1 * torch.randn_like(bias))
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean = 0.3 * torch.randn(child.num_features)
            child.running_var = torch.rand(child.num_features) + 0.1
    module.eval().requires_grad_(False)
