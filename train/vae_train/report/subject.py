"""What a report looks at: the trained model, what it was trained on, and images it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vae_runtime.datasets import Dataset

from ..checkpoint import Checkpoint
from ..data import split
from ..state import Epoch

_MAX_IMAGES = 1_500  # held-out images that are looked at
_MAX_NUMBERS = 8_000_000  # pixels of the training images that PCA is fitted to
_LARGEST_LOOK = 4_000_000  # pixels of the held-out images


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run, with no more data than a report can look at in seconds.

    Attributes:
        checkpoint: the model and what was measured of it.
        history: its epochs, in order.
        training: a random part of the images it was trained on.
        held_out: a random part of the images it is judged by.
        part: where those are from: `test`, `validation` or, where nothing was held out, `training`.
    """

    checkpoint: Checkpoint
    history: Sequence[Epoch]
    training: Dataset
    held_out: Dataset
    part: str

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        history: Sequence[Epoch],
        data: Dataset,
        test: Dataset | None = None,
    ) -> Subject:
        """Judge by the test split, else by what was held out of `data`, else by `data` itself."""
        config = checkpoint.train
        training, validation = split(data, config.validation, config.seed)
        held_out, part = training, "training"
        for candidate, name in ((validation, "validation"), (test, "test")):
            if candidate is not None:
                held_out, part = candidate, name
        pixels = checkpoint.model.pixels
        return cls(
            checkpoint,
            history,
            _some(training, _MAX_NUMBERS // pixels, config.seed),
            _some(held_out, min(_MAX_IMAGES, _LARGEST_LOOK // pixels), config.seed),
            part,
        )

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """i64[N], what the model is told of the held-out images; None where it reads no labels."""
        return self.held_out.labels if self.checkpoint.model.family == "cvae" else None


def _some(data: Dataset, most: int, seed: int) -> Dataset:
    """At most so many images (and at least one), drawn at random."""
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(order[: max(1, most)]).read()
