"""`vae-run interpolate`: morph from one image or latent vector to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..console import PATH
from . import options

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder
    from ..bundle.spec import ModelSpec

EPILOG = """\b
Examples:
  vae-run interpolate one.png seven.png -o morph.gif
  vae-run interpolate one.png seven.png --steps 12 --spherical -o strip.png
  vae-run interpolate z.npy --digit 3 -o strip.png
  vae-run interpolate --digit 3 --seed 4 -o morph.webp
  vae-run interpolate --digit 1 --digit 8 -o morph.png
"""


@click.command(epilog=EPILOG)
@click.argument("ends", nargs=-1, type=PATH)
@options.label("Class index or name; give two to morph from one class to another.")
@options.integer(
    "--steps", default=9, min=2, max=1000, help="Number of frames, including both ends."
)
@options.flag("--spherical", help="Interpolate along the great circle, not a straight line.")
@options.seed("Seed for the two latents, where no ENDS are given.")
@options.resize
@options.output("interpolation.png", "a strip, or an animation (.gif, .webp)")
@options.model()
def command(
    ends: tuple[str, ...],
    labels: tuple[str, ...],
    steps: int,
    spherical: bool,
    seed: int,
    resize: bool,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Morph between two images or two latents.

    ENDS are two images, two files of one latent each (.npy, .csv), or one file of two latents.
    Without them, two latents are sampled from the prior. With two labels, the frames fade from the
    first class to the second.
    """
    from .output import report, write_strips

    output.check(*options.IMAGES, inputs=(*ends, model_options.bundle))
    with model_options.load() as model:
        label = _labels_of_ends(labels, model.spec)
        if ends:
            (a, b), stored = _read_ends(model, ends, resize=resize)
            label = stored if label is None else label
        else:
            a, b = model.sample_latents(2, label, seed)
        how = "spherical" if spherical else "linear"
        frames = model.interpolate(a, b, steps, label, how=how)
        device = model.device
    write_strips(frames[None], output)
    report(f"{steps} frames{output.to_path}", output, steps=steps, how=how, device=device)


def _labels_of_ends(labels: tuple[str, ...], spec: ModelSpec) -> tuple[int, int] | None:
    """Return the class index of each end, or None if there is no label."""
    from ..errors import UsageError
    from ..labels import label_index

    if len(labels) > 2:
        raise UsageError(f"{len(labels)} labels, expected one --label or two")
    return (label_index(labels[0], spec), label_index(labels[-1], spec)) if labels else None


def _read_ends(
    model: Autoencoder, ends: tuple[str, ...], *, resize: bool
) -> tuple[list[NDArray[Any]], tuple[int, int] | None]:
    """Read two images or latent vectors, and the class indices if the files give them."""
    from ..errors import UsageError
    from ..labels import as_labels
    from .inputs import read_images, read_latents

    found: list[NDArray[Any]] = []
    labels: list[int] = []
    for name in ends:
        if name.lower().endswith((".npy", ".npz", ".csv")):
            latents, stored = read_latents(name, model.spec.latent_shape)
            found += list(latents)
            if stored is not None and model.spec.classes:
                labels += as_labels(stored, len(latents), model.spec).tolist()
        else:
            found += list(read_images((name,), model.spec.image, resize=resize).images)
    if len(found) != 2:
        raise UsageError(f"expected two images or latents, got {len(found)}")
    return found, (labels[0], labels[1]) if len(labels) == 2 else None
