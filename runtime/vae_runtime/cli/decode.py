"""`vae-run decode`: latents to images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .options import (
    Source,
    check_count,
    count_limit_option,
    label_one_option,
    model_options,
    one_label,
    output_options,
)
from .target import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder
    from .output import Column

EPILOG = """\b
Examples:
  vae-run decode latents.npz -o again.png
  vae-run decode latents.npy --digit 3 -o threes/
  vae-run encode digit.png -o - | vae-run decode - -o again.png
"""


@click.command(epilog=EPILOG)
@click.argument("latents")
@label_one_option
@count_limit_option
@output_options("decoded.png", "A grid picture, .npy .npz .csv, or a folder: a name with no dot.")
@model_options
def command(
    latents: str, labels: tuple[str, ...], limit: int, source: Source, target: Target
) -> None:
    """Turn latents into images.

    CODES is an .npy f32[N, D], an .npz with z (and labels), a .csv of N lines, or - for standard
    input. A conditional model reads --label, or else the labels in the .npz.
    """
    from .inputs import read_latents
    from .output import IMAGES, Column, write_images

    target.check(*IMAGES)
    with source.open() as model:
        z, stored = read_latents(latents, model.spec.latent_dim)
        check_count(len(z), limit)
        name = one_label(labels)
        images = decoded(model, z, stored if name is None else name)
        words = write_images(images, target, {"z": Column.of(z)})
        target.report(words, n=len(z), device=model.device)


def decoded(
    model: Autoencoder, z: NDArray[np.float32], label: str | NDArray[np.int64] | None
) -> Column:
    """The images of latents f32[N, D], made when they are written; labels for a CVAE alone."""
    from ..arrays import as_labels
    from ..console import progress
    from ..inference.batching import BATCH_SIZE
    from .output import Column

    # Labels that a file happens to hold are of no use to a model without classes.
    wanted = label if model.spec.classes or isinstance(label, str) else None
    if wanted is not None and not isinstance(wanted, str):
        wanted = as_labels(wanted, len(z), model.spec)

    def chunks() -> Iterator[NDArray[Any]]:
        for i in range(0, len(z), BATCH_SIZE):
            part = (
                wanted if isinstance(wanted, str) or wanted is None else wanted[i : i + BATCH_SIZE]
            )
            yield model.decode(z[i : i + BATCH_SIZE], part)

    shape = (len(z), *model.spec.image.shape)
    return Column(shape, "<f4", lambda: progress(chunks(), len(z), BATCH_SIZE))
