"""The modules to trace, one per graph, with the tensor names and shapes of the bundle.

Label embeddings are computed once and traced as a constant table, so that a label lookup is a
single Gather node.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vae_models import AE, CVAE, VAE


class EncoderGraph(nn.Module):
    """The encoder graph: image[, label] → z for an AE, mu and log_var otherwise."""

    def __init__(self, model: AE | VAE) -> None:
        super().__init__()
        self.model = model
        if isinstance(model, CVAE) and model.encoder_labels is not None:
            self.register_buffer("table", model.encoder_labels.table().detach())

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Map f32[N, C, H, W][, i64[N] in [0, K], where K is "no label"] → one or two f32[N, D]."""
        if not isinstance(self.model, CVAE) or label is None:
            return self.model.encode(image)
        return self.model.encode_row(image, F.embedding(label, self.get_buffer("table")))


class DecoderGraph(nn.Module):
    """The decoder graph: z[, label] → image. Without a label, a CVAE uses its "no label" row."""

    def __init__(self, model: AE | VAE, *, labelled: bool = False) -> None:
        super().__init__()
        self.model = model
        if isinstance(model, CVAE):
            table = model.decoder_labels.table().detach()
            self.register_buffer("table", table if labelled else table[-1:])

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Map f32[N, D][, i64[N] in [0, K], where K is "no label"] → f32[N, C, H, W] in [0, 1]."""
        if not isinstance(self.model, CVAE):
            return self.model.decode(z)
        row = self.get_buffer("table")
        if label is not None:
            row = F.embedding(label, row)
        elif self.model.config.label_join == "concat":
            row = row.expand(z.shape[0], -1)  # the other joins broadcast a single row
        return torch.sigmoid(self.model.decode_row(z, row))


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        role: `encoder`, `decoder` or `conditional_decoder`.
        module: the module to trace, which takes `inputs` in order.
        inputs, outputs: tensor names.
    """

    role: str
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def graphs_of(model: AE | VAE | CVAE) -> list[Graph]:
    """Build the graphs of a model from vae-train, in bundle order."""
    conditional = DecoderGraph(model, labelled=True) if isinstance(model, CVAE) else None
    return make_graphs(
        EncoderGraph(model),
        DecoderGraph(model),
        conditional,
        plain=isinstance(model, AE),
        labelled_encoder=isinstance(model, CVAE) and model.encoder_labels is not None,
    )


def make_graphs(
    encoder: nn.Module,
    decoder: nn.Module,
    conditional: nn.Module | None,
    *,
    plain: bool,
    labelled_encoder: bool,
) -> list[Graph]:
    """Build graphs that name the tensors of each module, and set the modules to evaluation mode.

    Args:
        encoder: image[, label] → z, or mu and log_var.
        decoder: z → image.
        conditional: z, label → image; None if the decoder takes no label.
        plain: whether the encoder returns z instead of mu and log_var.
        labelled_encoder: whether the encoder takes a label.
    """
    inputs = ("image", "label") if labelled_encoder else ("image",)
    graphs = [
        Graph("encoder", encoder, inputs, ("z",) if plain else ("mu", "log_var")),
        Graph("decoder", decoder, ("z",), ("image",)),
    ]
    if conditional is not None:
        graphs.append(Graph("conditional_decoder", conditional, ("z", "label"), ("image",)))
    for graph in graphs:
        graph.module.eval().requires_grad_(False)
    return graphs
