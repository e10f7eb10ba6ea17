"""A label becomes a vector: one row of a table."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelTable(nn.Module):
    """Linear on the one-hot label, with or without ReLU, computed as a table lookup.

    The linear layer on a one-hot vector picks a column of its weight; the table holds all of them,
    so the exported graph needs a single Gather.
    """

    def __init__(self, classes: int, width: int, *, relu: bool, null_label: bool) -> None:
        super().__init__()
        self.classes = classes
        self.relu = relu
        self.null_label = null_label
        self.linear = nn.Linear(classes + null_label, width)

    def table(self) -> Tensor:
        """f32[classes + 1, width]: a row for each class, then the row of "no label"."""
        rows = self.linear.weight.t() + self.linear.bias
        rows = torch.relu(rows) if self.relu else rows
        return rows if self.null_label else torch.cat([rows, rows.mean(0, keepdim=True)])

    @torch.no_grad()
    def guide(self, factor: float) -> None:
        """Move every class's row away from that of "no label": its difference times `factor`.

        What classifier-free guidance does with two passes of a model (Ho & Salimans 2022, arXiv
        2207.12598), done once, where the label enters and ahead of any ReLU. 1 changes
        nothing.

        Raises:
            ValueError: there is no row for "no label".
        """
        if not self.null_label:
            raise ValueError("guidance needs a row for no label")
        rows = self.linear.weight  # (width, classes + 1): the bias cancels in differences
        rows.copy_(torch.lerp(rows[:, -1:].expand_as(rows), rows, factor))

    def forward(self, label: Tensor | None, n: int) -> Tensor:
        """i64[n] in [0, classes], where `classes` means no label, as does None → f32[n, width]."""
        if label is None:
            label = torch.full((n,), self.classes, device=self.linear.weight.device)
        return self.table()[label]
