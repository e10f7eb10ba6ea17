"""`vae-run traverse`: vary one latent dimension, or all, and watch."""

from __future__ import annotations

import click

from .options import (
    label_option,
    model_options,
    open_model,
    output_option,
    scale_option,
    seed_option,
)

EPILOG = """\b
Examples:
  vae-run traverse --digit 3 --dim 2 -o walk.gif
  vae-run traverse --digit 3 --dim 2 --steps 15 -o strip.png
  vae-run traverse --digit 3 -o all.png               a row for each dimension
  vae-run traverse --from digit.png --dim 0 -o walk.webp
"""


@click.command(epilog=EPILOG)
@label_option
@click.option("--dim", type=click.IntRange(0), help="Which dimension. [default: all, one a row]")
@click.option("--steps", type=click.IntRange(2, 1000), default=11, show_default=True)
@click.option(
    "--span",
    type=float,
    default=3.0,
    show_default=True,
    help="How far to go either way, in standard deviations.",
)
@click.option("--from", "image", help="Start from this image's code instead of the seed's.")
@seed_option
@scale_option
@output_option("traversal.png", "A strip or matrix, or an animation (.gif, .webp).")
@model_options
def command(
    labels: tuple[str, ...],
    dim: int | None,
    steps: int,
    span: float,
    image: str | None,
    seed: int | None,
    scale: int | None,
    out: str,
    bundle: str,
    device: str,
    threads: int,
) -> None:
    """Vary one latent dimension, or each in turn, and show what it does."""
    import numpy as np

    from ..errors import UsageError
    from .entry import note
    from .inputs import read_images
    from .output import check_target, write_result

    check_target(out)
    if len(labels) > 1:
        raise UsageError("traverse takes one --label")
    with open_model(bundle, device, threads) as model:
        start = None if image is None else read_images((image,), model.card.image, 1)[0]
        dims = range(model.card.latent_dim) if dim is None else [dim]
        label = labels[0] if labels else None
        strips = [model.traverse(d, steps, label, seed or 0, image=start, span=span) for d in dims]
    written = write_result(np.concatenate(strips), out, columns=steps, scale=scale, animate=True)
    note(f"wrote {written}")
