"""`vae-run traverse`: vary one latent dimension, or all, and watch."""

from __future__ import annotations

import click

from .options import (
    Source,
    check_count,
    count_limit_option,
    label_one_option,
    model_options,
    one_label,
    output_options,
    resize_option,
)
from .target import Target

EPILOG = """\b
Examples:
  vae-run traverse --digit 3 --dim 2 -o walk.gif
  vae-run traverse --digit 3 --dim 2 --steps 15 -o strip.png
  vae-run traverse --digit 3 -o all.png
  vae-run traverse --digit 3 -o all.gif
  vae-run traverse --from digit.png --dim 0 -o walk.webp
"""


@click.command(epilog=EPILOG)
@label_one_option
@click.option("--dim", type=click.IntRange(0), help="Which dimension. [default: all, one a row]")
@click.option("--steps", type=click.IntRange(2, 1000), default=11, show_default=True)
@click.option(
    "--span",
    type=click.FloatRange(0, 100),
    default=3.0,
    show_default=True,
    help="How far to go either way, in standard deviations.",
)
@click.option("--from", "image", help="Start from this image's code instead of the seed's.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Of the code to start from.",
)
@count_limit_option
@resize_option
@output_options("traversal.png", "A strip or matrix, or an animation (.gif, .webp).")
@model_options
def command(
    labels: tuple[str, ...],
    dim: int | None,
    steps: int,
    span: float,
    image: str | None,
    seed: int,
    limit: int,
    resize: bool,
    source: Source,
    target: Target,
) -> None:
    """Vary one latent dimension, or each in turn, and show what it does.

    A picture has one row a dimension; an animation shows all of them at once.
    """
    import numpy as np

    from .inputs import read_pictures
    from .output import ANIMATIONS, IMAGES, Column, write_frames, write_images

    target.check(*IMAGES)
    with source.open() as model:
        spec, label = model.spec.image, one_label(labels)
        start = None
        if image is not None:
            start = read_pictures((image,), spec, 1, resize=resize).images[0]
        dims = range(model.spec.latent_dim) if dim is None else [dim]
        check_count(steps * len(dims), limit)
        strips = [model.traverse(d, steps, label, seed, image=start, span=span) for d in dims]
        device = model.device
    if target.out is not None and target.kind in ANIMATIONS:
        from ..images import grid, grid_columns

        columns = target.columns or grid_columns(len(strips))
        frames = np.stack(strips, axis=1)  # [steps, dimensions, C, H, W]
        target.draw(np.concatenate(strips), steps)
        write_frames([grid(frame, columns) for frame in frames], target)
    else:
        write_images(Column.of(np.concatenate(strips)), target, columns=steps)
    what = f"dimension {dim}" if dim is not None else f"{len(strips)} dimensions"
    text = f"{steps} steps of {what}{f' to {target.out}' if target.out else ''}"
    target.report(text, steps=steps, dims=list(dims), span=span, device=device)
