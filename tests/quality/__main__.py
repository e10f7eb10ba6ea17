"""Measure a bundle's samples: `python -m tests.quality BUNDLE … --data FOLDER [--classifier FILE]`.

Prints for each bundle: label fidelity (1,000 samples per class), the Fréchet distance and its floor
(10,000 training digits against the test digits), precision and recall (k = 3, 3,000 images on each
side), as means over five seeds and for the first seed; the same for `sampler.onnx`, which is given
normals of NumPy's generator; then the same for the bundle's reconstructions of test digits. The
classifier is trained first unless its file exists.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

import vae_runtime as vae
from tests.quality.classifier import load_or_train
from tests.quality.judge import SAMPLES_PER_CLASS, Judge, pixels
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.datasets import Dataset, load_dataset


@click.command()
@click.argument("bundles", nargs=-1, required=True)
@click.option("--data", default="mnist")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
@click.option("--temperature", default=1.0)
def main(bundles: tuple[str, ...], data: str, path: Path, temperature: float) -> None:
    """Measure each bundle and print one JSON line per set of images."""
    torch.set_num_threads(1)
    test = load_dataset(data, "test")
    judge = Judge.of(load_or_train(data, path), load_dataset(data), test)
    print(json.dumps({"classifier accuracy": judge.accuracy}))
    for name in bundles:
        with vae.load(name) as bundle:
            for images, found in measure(name, bundle, judge, test, temperature).items():
                print(json.dumps({"bundle": name, "images": images} | found), flush=True)


def measure(
    name: str, bundle: vae.Autoencoder, judge: Judge, test: Dataset, temperature: float
) -> dict[str, dict[str, float]]:
    """Judge a bundle's samples and its reconstructions of the test digits."""
    conditional = bool(bundle.spec.classes)
    labels = np.repeat(np.arange(10), SAMPLES_PER_CLASS) if conditional else None

    def sample(seed: int) -> NDArray[np.floating]:
        return bundle.sample(10 * SAMPLES_PER_CLASS, labels, seed, temperature=temperature)

    def through_sampler(seed: int) -> NDArray[np.floating]:
        normals = np.random.default_rng(seed).standard_normal(
            (10 * SAMPLES_PER_CLASS, bundle.spec.latent_dim + 1), np.float32
        )
        return sampler(normals, labels)

    reconstructions = bundle.reconstruct(pixels(test), test.labels if conditional else None)
    with vae.Sampler(open_bundle(name).read_all()["sampler.onnx"]) as sampler:
        through = judge.measure_seeds(through_sampler, labels)
    return {
        "samples": judge.measure_seeds(sample, labels),
        "samples of sampler.onnx": through,
        "reconstructions": judge.measure(reconstructions, test.labels),
    }


if __name__ == "__main__":
    main()
