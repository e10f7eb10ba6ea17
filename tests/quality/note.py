"""Write what a CVAE's samples are worth into its checkpoint: `python -m tests.quality.note FILE`.

The figures of the quality table go to the facts of training, as `quality`, and from there into
the manifest of every bundle that is exported.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch

from tests.quality.judge import A_CLASS, DRAWS, Judge, classifier
from tests.quality.rows import Bench, samples
from vae_runtime.datasets import load_dataset
from vae_train.checkpoint import load_checkpoint, save_checkpoint


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", default="mnist")
@click.option("--classifier", "path", default="classifier.pt", type=click.Path(path_type=Path))
def main(file: Path, data: str, path: Path) -> None:
    """Measure, and write the checkpoint again."""
    torch.set_num_threads(1)
    train, test = load_dataset(data), load_dataset(data, "test")
    judge = Judge.of(classifier(data, path), train, test)
    checkpoint = load_checkpoint(file)
    found = samples(checkpoint, Bench(train, test, judge, 1, 2, 2))
    quality = {
        "samples_a_class": A_CLASS,
        "draws": DRAWS,
        "classifier_accuracy": round(judge.accuracy, 4),
    }
    quality |= found
    save_checkpoint(replace(checkpoint, facts=checkpoint.facts | {"quality": quality}), file)
    print(quality)


if __name__ == "__main__":
    main()
