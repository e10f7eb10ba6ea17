"""Measure a bundle's samples: `python -m tests.quality BUNDLE … --data FOLDER [--classifier FILE]`.

Prints, for each bundle, label fidelity (1,000 samples a class), Fréchet distance beside the floor
between MNIST's own halves, precision and recall (k = 3, 3,000 a side), means of five draws and the
first draw's own, and the same of the bundle's reconstructions of test digits. The classifier is
trained first unless the file is there.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

import vae_runtime as vae
from tests.quality.judge import A_CLASS, Judge, classifier, pixels
from vae_runtime.datasets import Dataset, load_dataset


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--data", default="mnist")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
@click.option("--temperature", default=1.0)
def main(bundles: tuple[str, ...], data: str, path: Path, temperature: float) -> None:
    """Measure each bundle."""
    torch.set_num_threads(1)
    test = load_dataset(data, "test")
    judge = Judge.of(classifier(data, path), load_dataset(data), test)
    print(json.dumps({"classifier accuracy": judge.accuracy}))
    for name in bundles:
        with vae.load(name) as bundle:
            for what, found in measure(bundle, judge, test, temperature).items():
                print(json.dumps({"bundle": name, "of": what} | found), flush=True)


def measure(
    bundle: vae.Autoencoder, judge: Judge, test: Dataset, temperature: float
) -> dict[str, dict[str, float]]:
    """What the judge says of a bundle's samples and of its reconstructions."""
    assert test.labels is not None
    conditional = bool(bundle.spec.classes)
    labels = np.repeat(np.arange(10), A_CLASS) if conditional else None

    def draw(seed: int) -> NDArray[np.floating]:
        return bundle.sample(10 * A_CLASS, labels, seed, temperature=temperature)

    again = bundle.reconstruct(pixels(test), test.labels if conditional else None)
    return {
        "samples": judge.measure_draws(draw, labels),
        "reconstructions": judge.measure(again, test.labels),
    }


if __name__ == "__main__":
    main()
