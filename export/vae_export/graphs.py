"""The modules that are traced: one for each graph, with the bundle's names and shapes.

The label table is computed once, here, and becomes a constant: a graph reads a row with one Gather.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import AE, CVAE, VAE


class EncoderGraph(nn.Module):
    """image → z (AE) or mu, log_var (VAE, CVAE without a label in its encoder)."""

    def __init__(self, model: AE | VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """f32[N, C, H, W] → f32[N, D], one or two of them."""
        return self.model.encode(image)


class ConditionalEncoderGraph(nn.Module):
    """image, label → mu, log_var."""

    def __init__(self, model: CVAE) -> None:
        super().__init__()
        assert model.encoder_labels is not None
        self.model = model
        self.register_buffer("table", model.encoder_labels.table().detach())

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """f32[N, C, H, W], i64[N] in [0, K], where K means no label → two f32[N, D]."""
        return self.model.encode_row(image, F.embedding(label, self.get_buffer("table")))


class DecoderGraph(nn.Module):
    """z → image; of a CVAE, with the row that means "no label"."""

    def __init__(self, model: AE | VAE) -> None:
        super().__init__()
        self.model = model
        if isinstance(model, CVAE):
            self.register_buffer("row", model.decoder_labels.table()[-1:].detach())

    def forward(self, z: Tensor) -> Tensor:
        """f32[N, D] → f32[N, C, H, W] in [0, 1]."""
        if not isinstance(self.model, CVAE):
            return self.model.decode(z)
        row = self.get_buffer("row")
        if self.model.config.label_join == "concat":
            row = row.expand(z.shape[0], -1)  # every other join broadcasts one row
        return torch.sigmoid(self.model.decode_row(z, row))


class ConditionalDecoderGraph(nn.Module):
    """z, label → image."""

    def __init__(self, model: CVAE) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("table", model.decoder_labels.table().detach())

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """f32[N, D], i64[N] in [0, K], where K means no label → f32[N, C, H, W] in [0, 1]."""
        return torch.sigmoid(self.model.decode_row(z, F.embedding(label, self.get_buffer("table"))))


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        role: `encoder`, `decoder` or `conditional_decoder`.
        module: what is traced; takes `inputs` in this order.
        inputs, outputs: tensor names.
    """

    role: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graphs_of(model: AE | VAE | CVAE) -> list[Graph]:
    """The graphs of a model in evaluation mode, in the order of the bundle."""
    latents = ("z",) if isinstance(model, AE) else ("mu", "log_var")
    if isinstance(model, CVAE) and model.encoder_labels is not None:
        encoder = Graph("encoder", ConditionalEncoderGraph(model), ("image", "label"), latents)
    else:
        encoder = Graph("encoder", EncoderGraph(model), ("image",), latents)
    graphs = [encoder, Graph("decoder", DecoderGraph(model), ("z",), ("image",))]
    if isinstance(model, CVAE):
        conditional = ConditionalDecoderGraph(model)
        graphs.append(Graph("conditional_decoder", conditional, ("z", "label"), ("image",)))
    for graph in graphs:
        graph.module.eval().requires_grad_(False)
    return graphs
