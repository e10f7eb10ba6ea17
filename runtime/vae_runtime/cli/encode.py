"""`vae-run encode`: images to latents, as features or as compression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import (
    Source,
    label_one_option,
    limit_option,
    model_options,
    one_label,
    output_options,
    resize_option,
)
from .target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPILOG = """\b
Examples:
  vae-run encode digits/ -o latents.npz
  vae-run encode digit.png -o - -f csv
  vae-run encode t10k-images-idx3-ubyte.gz -o features.csv
"""


@click.command(epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True)
@label_one_option
@limit_option
@resize_option
@output_options("latents.npy", ".npy, .csv, or .npz with z, log_var and labels.", pictures=False)
@model_options
def command(
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int | None,
    resize: bool,
    source: Source,
    target: Target,
) -> None:
    """Turn images into latents of a few numbers, and say how much smaller they are.

    INPUTS are image files, folders, IDX files, .npz or .npy, mnist, digits, or - for standard
    input. A conditional encoder reads --label, or else the labels that the data has.
    """
    from ..console import pluralize
    from .inputs import read_pictures
    from .output import Column, write_table
    from .target import TABLES

    target.check(*TABLES)
    with source.open() as model:
        spec = model.spec
        pictures = read_pictures(inputs, spec.image, limit, resize=resize)
        label: Any = one_label(labels)
        known = pictures.indices(spec)
        z, log_var = model.posterior(pictures.images, known if label is None else label)
        device = model.device
    extra: dict[str, NDArray[Any] | None] = {"log_var": log_var, "labels": known}
    columns = {name: Column.of(array) for name, array in extra.items() if array is not None}
    write_table(Column.of(z), target, columns, name="z")
    c, h, w = spec.image.shape
    pixels, code = c * h * w, z.dtype.itemsize * spec.latent_dim
    text = (
        f"{pluralize(len(z), 'latent')} of {pluralize(spec.latent_dim, 'number')} to {target.out}: "
        f"{pixels:,} bytes of pixels to {code:,} an image, ratio {pixels / code:.1f}"
    )
    target.report(text, n=len(z), latent_dim=spec.latent_dim, bytes_image=pixels, bytes_code=code,
                  ratio=pixels / code, device=device)  # fmt: skip
