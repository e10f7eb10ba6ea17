"""`vae-run sample`: sample images from the latent prior."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import click

from ..console import PATH, given_options
from . import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder
    from ..bundle.spec import ModelSpec
    from .output import Column

EPILOG = """\b
Examples:
  vae-run sample --digit 3
  vae-run sample --digit 3 --show
  vae-run sample cvae/ --digit 3
  vae-run sample --digit 3 -n 16 --seed 0 -o threes.png
  vae-run sample --digit 7 --digit 8 -n 8 -o grid.png
  vae-run sample --digit all -n 10 --seed 1 -o digits.png
  vae-run sample -n 1000 --seed 1 -o samples.npz
  vae-run sample --latents samples.npz -o again.png
  vae-run sample --digit 5 -o - > five.png
"""


@click.command(epilog=EPILOG)
@options.label('Class index or name, or "all" for every class. May be repeated.')
@options.integer("-n", "--count", "n", default=1, help="Number of images per label.")
@options.seed("Seed for the latents; the same seed gives the same images.", default=None)
@options.max_images
@click.option(
    "--latents", type=PATH, metavar="FILE", help="Decode these latents instead: .npy, .npz or .csv."
)
@options.sampling()
@options.output("sample.png", "an image grid, .npy, .npz, .csv or a folder (a name without a dot)")
@options.model(as_argument=True)
def command(
    labels: tuple[str, ...],
    n: int,
    seed: int | None,
    max_images: int,
    latents: str | None,
    sampling: options.SamplingOptions,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Sample images from the latent prior.

    A conditional model takes labels; a grid has one row per --label. An .npz also holds the latents
    (z) and the labels.
    """
    from ..rng import fresh_seed
    from .decode import decode_file
    from .output import Column, describe_images, report, write_images

    output.check(*options.IMAGES, inputs=(latents, model_options.bundle))
    if latents is not None:
        _refuse_sampling_options()
    with model_options.load() as model:
        classes = _class_indices(labels, model.spec)
        extra: dict[str, Column]
        columns, names = 0, None
        if latents is None:
            total, seed = n * max(1, len(classes)), fresh_seed() if seed is None else seed
            options.check_count(total, max_images)
            images, extra = _sample(model, classes, n, seed, sampling)
            columns = n if n > 1 and len(classes) > 1 else 0
            if len(classes) > 1:
                names = [model.spec.classes[k] for k in classes for _ in range(n)]
        else:
            images, z = decode_file(model, latents, labels, max_images)
            total, seed, extra = len(z), None, {"z": Column.of(z)}
        write_images(images, output, extra, columns, names)
        suffix = "" if seed is None else f" (seed {seed})"
        report(describe_images(total, output) + suffix, output, n=total, seed=seed,
               labels=[model.spec.classes[k] for k in classes], device=model.device)  # fmt: skip


def _refuse_sampling_options() -> None:
    """Refuse sampling options, which have no effect with --latents."""
    from ..errors import UsageError

    for name, option in given_options().items():
        if name in ("n", "seed", *(field.name for field in fields(options.SamplingOptions))):
            raise UsageError(f"{option} has no effect with --latents. Leave it out.")


def _class_indices(labels: tuple[str, ...], spec: ModelSpec) -> list[int]:
    """Return the class indices; `all` means every class, unless a class is called `all`."""
    from ..labels import label_index

    if "all" in labels and spec.classes and "all" not in spec.classes:
        return list(range(len(spec.classes)))
    return [label_index(label, spec) for label in labels]


def _sample(
    model: Autoencoder, classes: list[int], n: int, seed: int, sampling: options.SamplingOptions
) -> tuple[Column, dict[str, Column]]:
    """Sample n images per class, class after class.

    Image i (counted over all classes) uses element i of the seed's sequence, so the result does not
    depend on the batch size.

    Returns:
        The images f32[classes·n, C, H, W]; and a dictionary of latents `z` and any `labels`.
    """
    import numpy as np

    from ..console import progress
    from ..inference.batching import BATCH_SIZE
    from .output import Column

    how = asdict(sampling)
    rounds: list[int | None] = [*classes] or [None]
    total = n * len(rounds)

    def batches(decode: bool) -> Iterator[NDArray[Any]]:
        for k, label in enumerate(rounds):
            for first in range(0, n, BATCH_SIZE):
                rows, start = min(BATCH_SIZE, n - first), k * n + first
                z = model.sample_latents(rows, label, seed, start=start, **how)
                yield model.decode(z, label) if decode else z

    images = Column((total, *model.spec.image.shape), "<f4",
                    lambda: progress(batches(decode=True), total, BATCH_SIZE))  # fmt: skip
    extra = {"z": Column((total, *model.spec.latent_shape), "<f4", lambda: batches(decode=False))}
    if classes:
        extra["labels"] = Column.of(np.repeat(np.array(classes, "<i8"), n))
    return images, extra
