"""`vae-run decode`: codes to images."""

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
  vae-run decode codes.npz -o again.png
  vae-run decode codes.npy --digit 3 -o threes/
  vae-run encode digit.png -o - | vae-run decode - -o again.png
"""


@click.command(epilog=EPILOG)
@click.argument("codes")
@label_one_option
@count_limit_option
@output_options("decoded.png", "A grid picture, .npy .npz .csv, or a folder: a name with no dot.")
@model_options
def command(
    codes: str, labels: tuple[str, ...], limit: int, source: Source, target: Target
) -> None:
    """Turn codes into images.

    CODES is an .npy f32[N, D], an .npz with z (and labels), a .csv of N lines, or - for standard
    input. A conditional model reads --label, or else the labels in the .npz.
    """
    from .inputs import read_codes
    from .output import IMAGES, Column, write_images

    target.check(*IMAGES)
    with source.open() as model:
        z, stored = read_codes(codes, model.card.latent_dim)
        check_count(len(z), limit)
        name = one_label(labels)
        images = decoded(model, z, stored if name is None else name)
        words = write_images(images, target, {"z": Column.of(z)})
        target.report(words, n=len(z), device=model.device)


def decoded(
    model: Autoencoder, z: NDArray[np.float32], label: str | NDArray[np.int64] | None
) -> Column:
    """The images of codes f32[N, D], made when they are written; labels for a CVAE alone."""
    from ..arrays import as_labels
    from ..chunks import CHUNK
    from .output import Column
    from .progress import counted

    # Labels that a file happens to hold are of no use to a model without classes.
    wanted = label if model.card.classes or isinstance(label, str) else None
    if wanted is not None and not isinstance(wanted, str):
        wanted = as_labels(wanted, len(z), model.card)

    def chunks() -> Iterator[NDArray[Any]]:
        for i in range(0, len(z), CHUNK):
            part = wanted if isinstance(wanted, str) or wanted is None else wanted[i : i + CHUNK]
            yield model.decode(z[i : i + CHUNK], part)

    shape = (len(z), *model.card.image.shape)
    return Column(shape, "<f4", lambda: counted(chunks(), len(z), CHUNK))
