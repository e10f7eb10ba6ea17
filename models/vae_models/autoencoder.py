"""The plain autoencoder (Rumelhart et al. 1986), and functions shared by all families."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .conv import ConvDecoder, ConvEncoder
from .mlp import MLPDecoder, MLPEncoder
from .output import Output


def make_encoder(config: ModelConfig) -> MLPEncoder | ConvEncoder:
    """Build the encoder trunk for the configured backbone."""
    return MLPEncoder(config) if config.backbone == "mlp" else ConvEncoder(config)


def make_decoder(config: ModelConfig) -> MLPDecoder | ConvDecoder:
    """Build the decoder for the configured backbone."""
    return MLPDecoder(config) if config.backbone == "mlp" else ConvDecoder(config)


@torch.no_grad()
def scale_logits(decoder: MLPDecoder | ConvDecoder, factor: float) -> None:
    """Multiply all logits by `factor` by scaling the weights of the decoder's last layer."""
    for parameter in decoder.head.parameters():
        parameter.mul_(factor)


class AE(nn.Module):
    """A deterministic autoencoder: image → z → image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        # In the reference recipe, the last layer of the encoder already outputs z.
        self.head: nn.Module = (
            nn.Identity()
            if config.relu_code
            else nn.Linear(self.encoder.features, config.latent_dim)
        )
        self.decoder = make_decoder(config)

    def encode(self, image: Tensor) -> Tensor:
        """Encode images f32[N, C, H, W] in [0, 1] to z f32[N, D]."""
        z: Tensor = self.head(self.encoder(image))
        return z

    def decode_logits(self, z: Tensor) -> Tensor:
        """Decode z f32[N, D] to logits f32[N, C, H, W], before the sigmoid."""
        logits: Tensor = self.decoder(z)
        return logits

    def decode(self, z: Tensor) -> Tensor:
        """Decode z f32[N, D] to images f32[N, C, H, W] in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z))

    def forward(self, image: Tensor) -> Output:
        """Encode and decode images f32[N, C, H, W] in [0, 1]."""
        z = self.encode(image)
        return Output(self.decode_logits(z), z)
