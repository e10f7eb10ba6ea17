"""A trained module as plain functions on NumPy arrays, a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models import CVAE, VAE
from vae_runtime.inference.batching import BATCH_SIZE

from ..checkpoint import Checkpoint
from ..objective import Model

Labels = NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Codes:
    """What the encoder makes of N images: the mean code, and for a VAE its log variance."""

    mu: NDArray[np.float32]
    log_var: NDArray[np.float32] | None

    def kl(self) -> NDArray[np.float64] | None:
        """Mean over the images of the KL of each dimension to N(0, 1), f64[D], nats."""
        if self.log_var is None:
            return None
        m, v = self.mu.astype(np.float64), self.log_var.astype(np.float64)
        each: NDArray[np.float64] = 0.5 * (m**2 + np.exp(v) - 1 - v).mean(axis=0)
        return each


class Network:
    """The model of a checkpoint, on the CPU."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._model: Model = checkpoint.build()

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8], labels: Labels = None) -> Codes:
        """u8[N, C, H, W] → latents f32[N, D]."""
        means, variances = [], []
        for image, label in _chunks(images, labels):
            image = image.float().div(255)
            if isinstance(self._model, CVAE):
                mu, log_var = self._model.encode(image, label)
            elif isinstance(self._model, VAE):
                mu, log_var = self._model.encode(image)
            else:
                means.append(self._model.encode(image))
                continue
            means.append(mu)
            variances.append(log_var)
        return Codes(torch.cat(means).numpy(), torch.cat(variances).numpy() if variances else None)

    @torch.no_grad()
    def decode(self, z: NDArray[np.float32], labels: Labels = None) -> NDArray[np.float32]:
        """Codes f32[N, D] → images f32[N, C, H, W] in [0, 1]."""
        found = []
        for code, label in _chunks(z, labels):
            if isinstance(self._model, CVAE):
                found.append(self._model.decode(code, label))
            else:
                found.append(self._model.decode(code))
        return torch.cat(found).numpy()


def _chunks(array: NDArray[np.generic], labels: Labels) -> Iterator[tuple[Tensor, Tensor | None]]:
    for first in range(0, len(array), BATCH_SIZE):
        part = slice(first, first + BATCH_SIZE)
        yield torch.tensor(array[part]), None if labels is None else torch.tensor(labels[part])
