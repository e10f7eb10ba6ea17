"""Judge digits with an independent classifier, in comparison with the real test digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tests.quality.classifier import Classifier, predict
from vae_runtime.datasets import Dataset
from vae_train.report.measure import frechet

SAMPLES_PER_CLASS = 1000
SEEDS = 5  # independent sets of samples
_NEIGHBOURS = 3000  # real and generated images each, for precision and recall
_FLOOR = 10_000  # training digits to measure the floor with

Array = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier and what it measured on the real digits.

    Attributes:
        model: the classifier.
        features: f32[N, 128] of all test digits.
        floor: Fréchet distance of 10,000 training digits from the test digits.
        accuracy: accuracy of the classifier on the test digits.
    """

    model: Classifier
    features: Array
    floor: float
    accuracy: float

    @classmethod
    def of(cls, model: Classifier, train: Dataset, test: Dataset) -> Judge:
        """Measure the real digits once."""
        predicted, features = predict(model, torch.from_numpy(pixels(test)))
        some = predict(model, torch.from_numpy(pixels(train.take(slice(0, _FLOOR)))))[1].numpy()
        real = features.numpy()
        accuracy = float((predicted.numpy() == test.labels).mean())
        return cls(model, real, frechet(some, real), accuracy)

    def measure(self, images: Array, labels: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Measure Fréchet distance, precision and recall; with `labels` also label fidelity.

        Args:
            images: f32[N, 1, 28, 28] in [0, 1].
            labels: i64[N], the intended classes. Fidelity is the fraction of images that the
                classifier assigns to theirs.
        """
        predicted, features = predict(self.model, torch.from_numpy(images))
        fake, rng = features.numpy(), np.random.default_rng(0)
        real, some = (x[rng.permutation(len(x))[:_NEIGHBOURS]] for x in (self.features, fake))
        precision, recall = precision_recall(real, some)
        distance = frechet(fake, self.features)
        found = {
            "frechet": distance,
            "floor": self.floor,
            "ratio": distance / self.floor,
            "precision": precision,
            "recall": recall,
        }
        if labels is not None:
            found["fidelity"] = float((predicted.numpy() == labels).mean())
        return {key: round(value, 4) for key, value in found.items()}

    def measure_seeds(
        self, sample: Callable[[int], Array], labels: NDArray[np.int64] | None = None
    ) -> dict[str, float]:
        """Average `measure` over seeds 0 to 4; `first_…` are the figures of seed 0 alone.

        One set of 10,000 samples determines fidelity to ± .0005 and recall to ± .015.

        Args:
            sample: seed → images, as for `measure`.
            labels: as for `measure`, the same for each seed.
        """
        found = [self.measure(sample(seed), labels) for seed in range(SEEDS)]
        means = {key: round(float(np.mean([each[key] for each in found])), 4) for key in found[0]}
        return means | {f"first_{key}": value for key, value in found[0].items()}


def pixels(data: Dataset) -> Array:
    """Convert the images of a data set to f32[N, C, H, W] in [0, 1]."""
    return data.images.astype(np.float32) / 255


def precision_recall(real: Array, fake: Array, k: int = 3) -> tuple[float, float]:
    """Compute precision and recall as in Kynkäänniemi et al. 2019, arXiv 1904.06991.

    Precision is the fraction of fake features within the k-nearest-neighbour ball of a real one;
    recall is the reverse.
    """
    return _covered(real, fake, k), _covered(fake, real, k)


def _covered(centres: Array, points: Array, k: int) -> float:
    radii = np.sort(_squared_distances(centres, centres), axis=1)[:, k]
    return float((_squared_distances(points, centres) <= radii[None]).any(axis=1).mean())


def _squared_distances(a: Array, b: Array) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    distances = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.maximum(distances, 0)
