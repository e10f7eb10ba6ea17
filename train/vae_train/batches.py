"""A batch as one step sees it: pixels, noise, labels, and what the latents are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vae_models import ModelConfig

from .config import TrainConfig
from .data import Rows
from .objective import Batch
from .ranks import Ranks

_CHUNK = 256  # latents a pass of an evaluation


@dataclass(frozen=True)
class Batches:
    """Makes batches of the images that a process holds.

    Every process draws the random numbers of the whole batch and keeps those of its own rows: the
    same image meets the same noise, however many processes there are.
    """

    data: Rows
    model: ModelConfig
    config: TrainConfig
    ranks: Ranks
    noise: torch.Generator

    def cut(self, order: Tensor, size: int) -> list[Tensor]:
        """Indices i64[held, images of a shard], `size` of each shard a batch: i64[held·size]."""
        # Once an epoch: between the large operations of a step each small one takes ten times as
        # long, since they put it out of the processor's caches.
        return [part.flatten() for part in torch.split(order.to(self.data.device), size, 1)]

    def make(self, index: Tensor, dropout: float = 0.0) -> Batch:
        """The batch of the images at `index` i64[held·n]; `dropout` is the share of labels hidden.

        Everything random is drawn here, in the order in which it stands.
        """
        image, label = self.data.batch(index)
        n, config = len(index) // self.ranks.held, self.config
        if label is not None and dropout:
            hidden = self._draw(torch.rand, 1, n)[0] < dropout
            label = label.masked_fill(hidden, self.model.classes)
        if config.binarise:
            image = (self._draw(torch.rand, 1, n, *image.shape[1:])[0] < image).float()
        seen = image
        if config.noise:
            grain = self._draw(torch.randn, 1, n, *image.shape[1:])[0]
            seen = (image + config.noise * grain).clamp_(0, 1)
        # An AE has no use for a code's noise.
        width = 0 if self.model.family == "ae" else self.model.latent_dim
        return Batch(
            image, seen, label, self._draw(torch.randn, config.importance_samples, n, width)
        )

    def all(self) -> Iterator[Batch]:
        """All images in their order, with their labels."""
        order = torch.arange(len(self.data)).view(self.ranks.held, -1)
        latents = self.ranks.shards * self.config.importance_samples
        for index in self.cut(order, max(1, _CHUNK // latents)):
            yield self.make(index)

    def _draw(self, kind: Callable[..., Tensor], k: int, n: int, *shape: int) -> Tensor:
        """f32[k, held·n, *shape] from the generator."""
        size = (k, self.ranks.shards, n, *shape)
        return self.ranks.own(kind(size, generator=self.noise, device=self.noise.device))
