"""The conditional variational autoencoder (Sohn et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .label import LabelTable
from .output import Output
from .vae import VAE, sample_posterior


class CVAE(VAE):
    """A VAE whose decoder, and optionally its encoder, is conditioned on the label.

    Labels are i64[N] in [0, classes]; the value `classes`, or None for the tensor, means no label.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.decoder_labels = _label_table(config, self.decoder.label_width, config.label_join)
        self.encoder_labels = (
            None
            if config.encoder_join == "none"
            else _label_table(config, self.encoder.label_width, config.encoder_join)
        )

    def encode(self, image: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f32[N, C, H, W] in [0, 1] and labels → mu and log_var, each f32[N, D]."""
        row = None if self.encoder_labels is None else self.encoder_labels(label, len(image))
        return self.encode_row(image, row)

    def encode_row(self, image: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
        """As `encode`, from the label's embedding for the encoder, f32[N, label_width]."""
        return self.heads(self.encoder(image, row))

    def decode_logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """f32[N, D] and labels → f32[N, C, H, W], before the sigmoid."""
        return self.decode_row(z, self.decoder_labels(label, len(z)))

    def decode_row(self, z: Tensor, row: Tensor) -> Tensor:
        """As `decode_logits`, from the label's embedding for the decoder, f32[N, label_width]."""
        join = self.config.label_join
        if join == "add":
            z = z + row
        elif join == "mean":
            z = (z + row) / 2
        elif join == "product":
            z = z * row
        logits: Tensor = self.decoder(z, row if join in ("concat", "film") else None)
        return logits

    def decode(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """f32[N, D] and labels → f32[N, C, H, W] in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z, label))

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Encode, sample one z per image from `generator`, decode with the same labels."""
        mu, log_var = self.encode(image, label)
        z = sample_posterior(mu, log_var, generator)
        return Output(self.decode_logits(z, label), z, mu, log_var)


def _label_table(config: ModelConfig, width: int, join: str) -> LabelTable:
    table = LabelTable(config.classes, width, relu=join != "film", null_label=config.null_label)
    if join == "film":
        # Start as the identity: scale 1 and shift 0 for every class.
        nn.init.zeros_(table.linear.weight)
        nn.init.zeros_(table.linear.bias)
    return table
