"""`vae-run sample`: draw images from the latent prior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..console import given_options
from .options import (
    Source,
    check_count,
    count_limit_option,
    label_option,
    model_options,
    output_options,
    prior_options,
    seed_option,
)
from .target import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder
    from .output import Column

EPILOG = """\b
Examples:
  vae-run sample --digit 3
  vae-run sample --digit 3 --show
  vae-run sample --digit 3 -n 16 --seed 0 -o threes.png
  vae-run sample --digit 7 --digit 8 -n 8 -o grid.png
  vae-run sample --digit all -n 10 --seed 1 -o digits.png
  vae-run sample -n 1000 --seed 1 -o samples.npz
  vae-run sample --latents samples.npz -o again.png
  vae-run sample --digit 5 -o - > five.png
"""


@click.command(epilog=EPILOG)
@label_option
@click.option(
    "-n",
    "--count",
    "n",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images of each label.",
)
@seed_option
@count_limit_option
@click.option("--latents", help="Decode these latents instead of drawing: .npy, .npz (z), .csv.")
@prior_options
@output_options("sample.png", "A grid picture, .npy .npz .csv, or a folder: a name with no dot.")
@model_options
def command(
    labels: tuple[str, ...],
    n: int,
    seed: int | None,
    limit: int,
    latents: str | None,
    source: Source,
    target: Target,
    **draw: Any,
) -> None:
    """Draw images from the latent prior, of a class where the model has classes.

    With several --digit, a row each. An .npz also holds the latents (z) and the labels.
    """
    from ..errors import UsageError
    from ..prior import fresh_seed
    from .output import IMAGES, write_images

    target.check(*IMAGES)
    if latents is not None:
        for name, flag in given_options().items():
            if name in ("n", "seed", *draw):
                raise UsageError(f"{flag} goes with latents that are drawn, not with --latents.")
    with source.open() as model:
        if latents is None:
            seed = fresh_seed() if seed is None else seed
            job = _drawn(model, labels, n, seed, draw)
        else:
            job, seed = _given(model, labels, latents), None
        check_count(job.images.shape[0], limit)
        words = write_images(job.images, target, job.extra, job.columns)
        said = "" if seed is None else f" (seed {seed})"
        target.report(words + said, n=job.images.shape[0], seed=seed, labels=job.names,
                      device=model.device)  # fmt: skip


class _Job(NamedTuple):
    images: Column
    extra: dict[str, Column]
    names: list[str]
    columns: int


def _drawn(
    model: Autoencoder, labels: tuple[str, ...], n: int, seed: int, draw: dict[str, Any]
) -> _Job:
    """Image i of all has index i of the seed, so nothing depends on chunks or on memory."""
    from .output import Column

    names = _names(model, labels)
    rounds: list[str | None] = list(names) or [None]
    total = n * len(rounds)

    def chunks(of: str) -> Iterator[NDArray[Any]]:
        import numpy as np

        from ..inference.batching import BATCH_SIZE

        for k, name in enumerate(rounds):
            for first in range(0, n, BATCH_SIZE):
                count = min(BATCH_SIZE, n - first)
                if of == "labels":
                    yield np.full(count, _index(model, name), np.int64)
                    continue
                z = model.sample_latents(count, name, seed, start=k * n + first, **draw)
                yield z if of == "z" else model.decode(z, name)

    shape = model.spec.image.shape
    extra = {"z": Column((total, model.spec.latent_dim), "<f4", lambda: chunks("z"))}
    if names:
        extra["labels"] = Column((total,), "<i8", lambda: chunks("labels"))
    images = Column((total, *shape), "<f4", lambda: _watched(chunks("images"), total))
    return _Job(images, extra, names, n if len(names) > 1 else 0)


def _given(model: Autoencoder, labels: tuple[str, ...], latents: str) -> _Job:
    """Codes from a file, as `vae-run decode` does it."""
    from .decode import decoded
    from .inputs import read_latents
    from .options import one_label
    from .output import Column

    z, stored = read_latents(latents, model.spec.latent_dim)
    name = one_label(labels)
    images = decoded(model, z, stored if name is None else name)
    return _Job(images, {"z": Column.of(z)}, [] if name is None else [name], 0)


def _names(model: Autoencoder, labels: tuple[str, ...]) -> list[str]:
    """The class names wanted; `all` is every class, unless one is called so."""
    from ..arrays import as_labels, class_index

    classes = model.spec.classes
    if "all" in labels and "all" not in classes and classes:
        return list(classes)
    wanted = [class_index(name, classes) if classes else name for name in labels]
    return [classes[as_labels(one, 1, model.spec)[0]] for one in wanted]


def _index(model: Autoencoder, name: str | None) -> int:
    return -1 if name is None else model.spec.classes.index(name)


def _watched(chunks: Iterator[NDArray[np.float32]], total: int) -> Iterator[NDArray[np.float32]]:
    from ..console import progress
    from ..inference.batching import BATCH_SIZE

    return progress(chunks, total, BATCH_SIZE)
