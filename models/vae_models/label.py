"""Label embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelTable(nn.Module):
    """A linear layer on the one-hot label, with or without ReLU, computed as a table lookup.

    On a one-hot vector, the layer selects a column of its weight. The table holds all columns, so
    that the exported graph needs a single Gather.
    """

    def __init__(self, classes: int, width: int, *, relu: bool, null_label: bool) -> None:
        super().__init__()
        self.classes = classes
        self.relu = relu
        self.null_label = null_label
        self.linear = nn.Linear(classes + null_label, width)

    def table(self) -> Tensor:
        """One row per class, then the row for "no label": f32[classes + 1, width]."""
        rows = self.linear.weight.t() + self.linear.bias
        rows = torch.relu(rows) if self.relu else rows
        return rows if self.null_label else torch.cat([rows, rows.mean(0, keepdim=True)])

    @torch.no_grad()
    def guide(self, factor: float) -> None:
        """Multiply the difference of each class's row from the row for "no label" by `factor`.

        This is classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598) applied to the
        weights, before any ReLU, instead of to the outputs of two passes. 1 changes nothing.

        Raises:
            ValueError: the table has no row for "no label".
        """
        if not self.null_label:
            raise ValueError("guidance needs a model with null_label")
        rows = self.linear.weight  # (width, classes + 1): the bias cancels in differences
        rows.copy_(torch.lerp(rows[:, -1:].expand_as(rows), rows, factor))

    def forward(self, label: Tensor | None, n: int) -> Tensor:
        """Labels i64[n] in [0, classes] → f32[n, width]; `classes` and None mean no label."""
        if label is None:
            label = torch.full((n,), self.classes, device=self.linear.weight.device)
        return self.table()[label]
