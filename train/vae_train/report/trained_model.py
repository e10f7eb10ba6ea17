"""The input of a report: a trained model that takes NumPy arrays, and images to evaluate it on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vae_models import CVAE, VAE
from vae_runtime.arrays import to_float32
from vae_runtime.datasets import Dataset
from vae_runtime.inference.batching import BATCH_SIZE

from ..checkpoint import Checkpoint
from ..data import split
from ..objective import Model, kl_to_standard_normal
from ..state import Epoch

Labels = NDArray[np.int64] | None

_MAX_HELD_OUT_IMAGES = 1_500
_MAX_HELD_OUT_PIXELS = 4_000_000
_MAX_TRAINING_PIXELS = 8_000_000  # images to fit PCA to


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The encoder's output for N images.

    Attributes:
        mu: f32[N, D], the posterior means; for an AE, z.
        log_var: f32[N, D], the log variances of the posteriors; None for an AE.
    """

    mu: NDArray[np.float32]
    log_var: NDArray[np.float32] | None

    def kl(self) -> NDArray[np.float64] | None:
        """Compute the KL of each dimension from N(0, 1), averaged over images: f64[D] in nats."""
        if self.log_var is None:
            return None
        kl = kl_to_standard_normal(torch.from_numpy(self.mu), torch.from_numpy(self.log_var))
        mean: NDArray[np.float64] = kl.double().mean(0).numpy()
        return mean


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A finished run, with few enough images that a report takes only seconds.

    Attributes:
        checkpoint: the model and its training metrics.
        history: per-epoch metrics, in order.
        training: a random sample of the training images.
        held_out: a random sample of the images to evaluate the model on.
        split: the source of `held_out`: `test`, `validation` or `training`.
    """

    checkpoint: Checkpoint
    history: Sequence[Epoch]
    training: Dataset
    held_out: Dataset
    split: str

    @classmethod
    def from_run(
        cls,
        checkpoint: Checkpoint,
        history: Sequence[Epoch],
        data: Dataset,
        test: Dataset | None = None,
    ) -> TrainedModel:
        """Draw random images to evaluate on: test, else validation, else training images."""
        config, pixels = checkpoint.train, checkpoint.model.pixels
        training, validation = split(data, config.validation, config.seed)
        held_out, name = training, "training"
        if test is not None:
            held_out, name = test, "test"
        elif validation is not None:
            held_out, name = validation, "validation"
        limit = min(_MAX_HELD_OUT_IMAGES, _MAX_HELD_OUT_PIXELS // pixels)
        return cls(
            checkpoint,
            history,
            _random_sample(training, _MAX_TRAINING_PIXELS // pixels, config.seed),
            _random_sample(held_out, limit, config.seed),
            name,
        )

    @property
    def labels(self) -> Labels:
        """The labels i64[N] of the held-out images; None if the model reads no labels."""
        return self.held_out.labels if self.checkpoint.model.family == "cvae" else None

    @cached_property
    def _module(self) -> Model:
        return self.checkpoint.build()

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8], labels: Labels = None) -> EncodedImages:
        """Encode images u8[N, C, H, W]."""
        mu, log_var = [], []
        model = self._module
        for batch, label in _batches(to_float32(images), labels):
            if isinstance(model, VAE):
                given = (label,) if isinstance(model, CVAE) else ()
                means, log_variances = model.encode(batch, *given)
                mu.append(means)
                log_var.append(log_variances)
            else:
                mu.append(model.encode(batch))
        return EncodedImages(torch.cat(mu).numpy(), torch.cat(log_var).numpy() if log_var else None)

    @torch.no_grad()
    def decode(self, z: NDArray[np.float32], labels: Labels = None) -> NDArray[np.float32]:
        """Decode latents f32[N, D] to images f32[N, C, H, W] in [0, 1]."""
        model = self._module
        images = [
            model.decode(batch, label) if isinstance(model, CVAE) else model.decode(batch)
            for batch, label in _batches(z, labels)
        ]
        return torch.cat(images).numpy()


def _random_sample(data: Dataset, limit: int, seed: int) -> Dataset:
    """Draw at most `limit` images, and at least one."""
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(order[: max(1, limit)]).read()


def _batches(array: NDArray[np.float32], labels: Labels) -> Iterator[tuple[Tensor, Tensor | None]]:
    for first in range(0, len(array), BATCH_SIZE):
        rows = slice(first, first + BATCH_SIZE)
        yield torch.tensor(array[rows]), None if labels is None else torch.tensor(labels[rows])
