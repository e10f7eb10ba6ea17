"""`vae-run decode`: decode latents to images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..console import PATH
from . import options

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
@click.argument("latents", type=PATH)
@options.label()
@options.max_images
@options.output("decoded.png", "an image grid, .npy, .npz, .csv or a folder (a name without a dot)")
@options.model()
def command(
    latents: str,
    labels: tuple[str, ...],
    max_images: int,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Decode latents to images.

    LATENTS is an .npy f32[N, D], an .npz with z (and labels), a .csv of N lines, or - for standard
    input. A conditional model uses --label if given, otherwise the labels in the .npz.
    """
    from .output import Column, describe_images, report, write_images

    output.check(*options.IMAGES, inputs=(latents, model_options.bundle))
    with model_options.load() as model:
        images, z = decode_file(model, latents, labels, max_images)
        write_images(images, output, {"z": Column.of(z)})
        report(describe_images(len(z), output), output, n=len(z), device=model.device)


def decode_file(
    model: Autoencoder, path: str, labels: tuple[str, ...], max_images: int
) -> tuple[Column, NDArray[np.float32]]:
    """Read latents z f32[N, D]; return the images (decoded only when they are written) and z.

    A conditional model uses --label if given, otherwise the labels in the file.
    """
    from ..console import progress
    from ..inference.batching import BATCH_SIZE
    from ..labels import as_labels
    from .inputs import read_latents
    from .output import Column

    label = options.single_label(labels, model.spec)
    z, stored = read_latents(path, model.spec.latent_shape)
    options.check_count(len(z), max_images)
    each = None
    if label is None and stored is not None and model.spec.classes:
        each = as_labels(stored, len(z), model.spec)

    def batches() -> Iterator[NDArray[Any]]:
        for i in range(0, len(z), BATCH_SIZE):
            rows = slice(i, i + BATCH_SIZE)
            yield model.decode(z[rows], label if each is None else each[rows])

    shape = (len(z), *model.spec.image.shape)
    return Column(shape, "<f4", lambda: progress(batches(), len(z), BATCH_SIZE)), z
