"""What an independent classifier says of a set of digits, beside the real test digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tests.quality.classifier import Classifier, judge, train_classifier
from tests.quality.metrics import frechet, precision_recall
from vae_runtime.datasets import Dataset, load_dataset
from vae_train.data import to_device

A_CLASS = 1000  # samples
DRAWS = 5  # of so many
_NEIGHBOURS = 3000  # images a side for precision and recall
_FLOOR = 10_000  # training digits that the floor is measured with


def classifier(data: str, path: Path) -> Classifier:
    """Load the classifier, or train and save it."""
    model = Classifier()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    model = train_classifier(to_device(load_dataset(data), torch.device("cpu"), labelled=True))
    torch.save(model.state_dict(), path)
    return model


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier and what it makes of the real digits.

    Attributes:
        model: the classifier.
        features: f32[N, 128] of all test digits.
        floor: Fréchet distance of 10,000 training digits to the test digits.
        accuracy: on the test digits.
    """

    model: Classifier
    features: NDArray[np.floating]
    floor: float
    accuracy: float

    @classmethod
    def of(cls, model: Classifier, train: Dataset, test: Dataset) -> Judge:
        """Look at the real digits once."""
        predicted, features = judge(model, torch.from_numpy(pixels(test)))
        some = judge(model, torch.from_numpy(pixels(train.take(slice(0, _FLOOR)))))[1].numpy()
        real = features.numpy()
        accuracy = float((predicted.numpy() == test.labels).mean())
        return cls(model, real, frechet(some, real), accuracy)

    def measure(
        self, images: NDArray[np.floating], labels: NDArray[np.int64] | None = None
    ) -> dict[str, float]:
        """Fréchet distance, precision, recall, and with `labels` the share read as their label.

        Args:
            images: f32[N, 1, 28, 28] in [0, 1].
            labels: i64[N], what they should be.
        """
        predicted, features = judge(self.model, torch.from_numpy(images))
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

    def measure_draws(
        self,
        draw: Callable[[int], NDArray[np.floating]],
        labels: NDArray[np.int64] | None = None,
    ) -> dict[str, float]:
        """Means of `measure` over draws 0 to 4, and with `first_` before them draw 0's own figures.

        One draw of 10,000 knows a fidelity to ± .0005 and a recall to ± .015.

        Args:
            draw: the images of a draw.
            labels: as of `measure`, the same for each.
        """
        found = [self.measure(draw(seed), labels) for seed in range(DRAWS)]
        means = {key: round(float(np.mean([each[key] for each in found])), 4) for key in found[0]}
        return means | {f"first_{key}": value for key, value in found[0].items()}


def pixels(data: Dataset) -> NDArray[np.floating]:
    """f32[N, C, H, W] in [0, 1]."""
    return data.images.astype(np.float32) / 255
