"""Measure a bundle's samples: `python -m tests.quality BUNDLE … --data FOLDER [--classifier FILE]`.

Prints, for each bundle, label fidelity (1,000 samples a class), Fréchet distance beside the floor
between MNIST's own halves, precision and recall (k = 3, 3,000 a side), and the same of the bundle's
reconstructions of test digits. The classifier is trained first unless the file is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch

import vae_runtime as vae
from tests.quality.classifier import Classifier, judge, train_classifier
from tests.quality.metrics import frechet, precision_recall
from vae_runtime.datasets import Dataset, load_dataset
from vae_train.data import to_device

_A_CLASS = 1000
_NEIGHBOURS = 3000


def classifier(data: str, path: Path) -> Classifier:
    """Load the judge, or train and save it."""
    model = Classifier()
    if path.exists():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    model = train_classifier(to_device(load_dataset(data), torch.device("cpu"), labelled=True))
    torch.save(model.state_dict(), path)
    return model


def measure(
    judge_of: Classifier,
    images: np.ndarray,
    labels: np.ndarray | None,
    test: Dataset,
    train_features: np.ndarray,
) -> dict[str, float]:
    """Figures of one set of images, beside the real test digits."""
    real = test.images.astype(np.float32) / 255
    predicted, features = judge(judge_of, torch.from_numpy(images))
    _, real_features = judge(judge_of, torch.from_numpy(real))
    fake, true = features.numpy(), real_features.numpy()
    floor = frechet(train_features, true)
    distance = frechet(fake, true)
    rng = np.random.default_rng(0)
    pick = [rng.permutation(len(x))[:_NEIGHBOURS] for x in (true, fake)]
    precision, recall = precision_recall(true[pick[0]], fake[pick[1]])
    found = {
        "frechet": distance,
        "floor": floor,
        "ratio": distance / floor,
        "precision": precision,
        "recall": recall,
    }
    if labels is not None:
        found["fidelity"] = float((predicted.numpy() == labels).mean())
    return {key: round(value, 4) for key, value in found.items()}


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--data", default="mnist")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
@click.option("--seed", default=0)
def main(bundles: tuple[str, ...], data: str, path: Path, seed: int) -> None:
    """Measure each bundle."""
    torch.set_num_threads(1)
    model = classifier(data, path)
    test = load_dataset(data, "test")
    assert test.labels is not None
    train = load_dataset(data).images[:10000].astype(np.float32) / 255
    train_features = judge(model, torch.from_numpy(train))[1].numpy()
    real = test.images.astype(np.float32) / 255
    accuracy = float((judge(model, torch.from_numpy(real))[0].numpy() == test.labels).mean())
    print(json.dumps({"classifier accuracy": accuracy}))
    for name in bundles:
        with vae.load(name) as bundle:
            conditional = bool(bundle.card.classes)
            labels = np.repeat(np.arange(10), _A_CLASS) if conditional else None
            images = bundle.sample(10 * _A_CLASS, labels, seed)
            again = bundle.reconstruct(real, test.labels if conditional else None)
        for what, pixels, known in (
            ("samples", images, labels),
            ("reconstructions", again, test.labels),
        ):
            found = measure(model, pixels, known, test, train_features)
            print(json.dumps({"bundle": name, "of": what} | found), flush=True)


if __name__ == "__main__":
    main()
