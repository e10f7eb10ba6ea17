"""The variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .autoencoder import make_decoder, make_encoder
from .config import ModelConfig
from .output import Output

# exp(±LOG_VAR_LIMIT) is representable in fp16, and no trained posterior comes near the limit.
LOG_VAR_LIMIT = 10.0


def sample_posterior(
    mu: Tensor, log_var: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Sample z ~ N(mu, exp(log_var)) with noise from `generator`; all f32[N, D].

    Under autocast, the noise stays in float32, and so does z.
    """
    eps = torch.randn(mu.shape, generator=generator, device=mu.device)
    return reparameterize(mu, log_var, eps)


def reparameterize(mu: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Return z = mu + exp(log_var / 2)·eps; mu, log_var f32[N, D], eps, z f32[..., N, D]."""
    return torch.addcmul(mu, torch.exp(0.5 * log_var), eps)


class VAE(nn.Module):
    """A VAE whose posterior is a diagonal Gaussian: q(z | image) = N(mu, exp(log_var))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = make_encoder(config)
        self.mu = nn.Linear(self.encoder.features, config.latent_dim)
        self.log_var = nn.Linear(self.encoder.features, config.latent_dim)
        self.decoder = make_decoder(config)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images f32[N, C, H, W] in [0, 1] to mu and log_var, each f32[N, D]."""
        return self.heads(self.encoder(image))

    def heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map f32[N, features] to mu and log_var, with log_var clamped to ± LOG_VAR_LIMIT."""
        log_var = self.log_var(features).clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT)
        return self.mu(features), log_var

    def decode_logits(self, z: Tensor) -> Tensor:
        """Decode z f32[N, D] to logits f32[N, C, H, W], before the sigmoid."""
        logits: Tensor = self.decoder(z)
        return logits

    def decode(self, z: Tensor) -> Tensor:
        """Decode z f32[N, D] to images f32[N, C, H, W] in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z))

    def forward(self, image: Tensor, *, generator: torch.Generator | None = None) -> Output:
        """Encode, sample one z per image with noise from `generator`, and decode."""
        mu, log_var = self.encode(image)
        z = sample_posterior(mu, log_var, generator)
        return Output(self.decode_logits(z), z, mu, log_var)
