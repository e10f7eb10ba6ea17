"""Write the measured quality of a CVAE's samples into its checkpoint.

    python -m tests.quality.annotate FILE

The figures of the quality table go into the checkpoint's training metadata as `quality`, and from
there into the manifest of every bundle exported from it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch

from tests.quality.classifier import load_or_train
from tests.quality.judge import SAMPLES_PER_CLASS, SEEDS, Judge
from tests.quality.rows import Bench, samples
from vae_runtime.datasets import load_dataset
from vae_train.checkpoint import load_checkpoint, save_checkpoint


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", default="mnist")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
def main(file: Path, data: str, path: Path) -> None:
    """Measure the samples and rewrite the checkpoint."""
    torch.set_num_threads(1)
    train, test = load_dataset(data), load_dataset(data, "test")
    judge = Judge.of(load_or_train(data, path), train, test)
    checkpoint = load_checkpoint(file)
    quality = {
        "samples_per_class": SAMPLES_PER_CLASS,
        "seeds": SEEDS,
        "classifier_accuracy": round(judge.accuracy, 4),
        **samples(checkpoint, Bench(train, test, judge, 1, 2, 2)),
    }
    save_checkpoint(replace(checkpoint, metadata=checkpoint.metadata | {"quality": quality}), file)
    print(quality)


if __name__ == "__main__":
    main()
