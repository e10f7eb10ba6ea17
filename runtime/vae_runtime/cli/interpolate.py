"""`vae-run interpolate`: morph from one image or code to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import (
    Source,
    label_one_option,
    model_options,
    one_label,
    output_options,
    resize_option,
)
from .target import Target

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder

EPILOG = """\b
Examples:
  vae-run interpolate one.png seven.png -o morph.gif
  vae-run interpolate one.png seven.png --steps 12 --spherical -o strip.png
  vae-run interpolate z.npy --digit 3 -o strip.png
  vae-run interpolate --digit 3 --seed 4 -o morph.webp
"""


@click.command(epilog=EPILOG)
@click.argument("ends", nargs=-1)
@label_one_option
@click.option(
    "--steps",
    type=click.IntRange(2, 1000),
    default=9,
    show_default=True,
    help="Frames, both ends included.",
)
@click.option("--spherical", is_flag=True, help="Along the great circle instead of straight.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Of the two latents, where ENDS are not given.",
)
@resize_option
@output_options("interpolation.png", "A strip, or an animation (.gif, .webp).")
@model_options
def command(
    ends: tuple[str, ...],
    labels: tuple[str, ...],
    steps: int,
    spherical: bool,
    seed: int,
    resize: bool,
    source: Source,
    target: Target,
) -> None:
    """Morph between two images, or two latents.

    ENDS are two images, two files of one code (.npy, .csv), or one file of two latents; without$
    them two latents are drawn from the prior.
    """
    from .output import ANIMATIONS, IMAGES, Column, write_frames, write_images

    target.check(*IMAGES)
    with source.open() as model:
        label = one_label(labels)
        (a, b), stored = _ends(model, ends, label, seed, resize=resize)
        how = "spherical" if spherical else "linear"
        frames = model.interpolate(a, b, steps, stored if label is None else label, how=how)
        device = model.device
    if target.out is not None and target.kind in ANIMATIONS:
        target.draw(frames, steps)
        write_frames(list(frames), target)
    else:
        write_images(Column.of(frames), target, columns=steps)
    text = f"{steps} frames{f' to {target.out}' if target.out else ''}"
    target.report(text, steps=steps, how=how, device=device)


def _ends(
    model: Autoencoder, ends: tuple[str, ...], label: str | None, seed: int, *, resize: bool
) -> tuple[list[NDArray[Any]], int | None]:
    """Two images or latents, and the class that stands beside both of two latents."""
    from ..arrays import as_labels
    from ..errors import UsageError
    from .inputs import read_latents, read_pictures

    if not ends:
        return list(model.sample_latents(2, label, seed)), None
    found: list[NDArray[Any]] = []
    labels: list[int] = []
    for name in ends:
        if name.lower().endswith((".npy", ".npz", ".csv")):
            latents, stored = read_latents(name, model.spec.latent_dim)
            found += list(latents)
            if stored is not None and model.spec.classes:
                labels += as_labels(stored, len(latents), model.spec).tolist()
        else:
            found += list(read_pictures((name,), model.spec.image, resize=resize).images)
    if len(found) != 2:
        raise UsageError(f"{len(found)} images or latents given, expected two ends")
    return found, labels[0] if len(labels) == 2 and labels[0] == labels[1] else None
