"""The conditional variational autoencoder (Sohn et al. 2015) and its label embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .output import Output
from .vae import VAE, sample_posterior


class LabelTable(nn.Module):
    """A linear layer on one-hot labels, with or without ReLU, computed by a table lookup.

    A linear layer applied to a one-hot vector selects one column of its weight matrix. With these
    columns stored as the rows of a table, the exported graph needs only one Gather.
    """

    def __init__(self, classes: int, width: int, *, relu: bool, null_label: bool) -> None:
        super().__init__()
        self.classes = classes
        self.relu = relu
        self.null_label = null_label
        self.linear = nn.Linear(classes + null_label, width)

    def table(self) -> Tensor:
        """Return f32[classes + 1, width]: one row per class, then the row for "no label"."""
        rows = self.linear.weight.t() + self.linear.bias
        rows = torch.relu(rows) if self.relu else rows
        return rows if self.null_label else torch.cat([rows, rows.mean(0, keepdim=True)])

    @torch.no_grad()
    def guide(self, factor: float) -> None:
        """Scale by `factor` the difference between each class's row and the row for "no label".

        This is classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) applied to the
        weights (before any ReLU) rather than to the outputs of two passes. A factor
        of 1 has no effect.

        Raises:
            ValueError: the table has no learned row for "no label".
        """
        if not self.null_label:
            raise ValueError("guidance needs a model with null_label")
        rows = self.linear.weight  # (width, classes + 1): the bias cancels in differences
        rows.copy_(torch.lerp(rows[:, -1:].expand_as(rows), rows, factor))

    def forward(self, label: Tensor | None, n: int) -> Tensor:
        """Look up the rows f32[n, width] of labels i64[n]; None means "no label" for all."""
        if label is None:
            label = torch.full((n,), self.classes, device=self.linear.weight.device)
        return self.table()[label]


class CVAE(VAE):
    """A VAE whose decoder, and optionally its encoder, is conditioned on the label.

    Labels are i64[N] in [0, classes]; the value `classes` means "no label". Passing None instead
    of a tensor means "no label" for all images.
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
        """Encode images f32[N, C, H, W] in [0, 1] to mu and log_var, each f32[N, D]."""
        row = None if self.encoder_labels is None else self.encoder_labels(label, len(image))
        return self.encode_row(image, row)

    def encode_row(self, image: Tensor, row: Tensor | None) -> tuple[Tensor, Tensor]:
        """Like `encode`, but takes the encoder's label embedding f32[N, label_width]."""
        return self.heads(self.encoder(image, row))

    def decode_logits(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Decode z f32[N, D] to logits f32[N, C, H, W], before the sigmoid."""
        return self.decode_row(z, self.decoder_labels(label, len(z)))

    def decode_row(self, z: Tensor, row: Tensor) -> Tensor:
        """Like `decode_logits`, but takes the decoder's label embedding f32[N, label_width]."""
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
        """Decode z f32[N, D] to images f32[N, C, H, W] in [0, 1]."""
        return torch.sigmoid(self.decode_logits(z, label))

    def forward(
        self,
        image: Tensor,
        label: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Output:
        """Encode, sample one z per image with noise from `generator`, and decode with `label`."""
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
