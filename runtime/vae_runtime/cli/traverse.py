"""`vae-run traverse`: vary one latent dimension, or each in turn."""

from __future__ import annotations

import click

from ..console import PATH
from . import options

EPILOG = """\b
Examples:
  vae-run traverse --digit 3 --dim 2 -o walk.gif
  vae-run traverse --digit 3 --dim 2 --steps 15 -o strip.png
  vae-run traverse --digit 3 -o all.png
  vae-run traverse --digit 3 -o all.gif
  vae-run traverse --from digit.png --dim 0 -o walk.webp
"""


@click.command(epilog=EPILOG)
@options.label()
@options.integer("--dim", min=0, help="Latent dimension to vary. [default: each in turn]")
@options.integer("--steps", default=11, min=2, max=1000, help="Number of frames per dimension.")
@options.number(
    "--span",
    default=3.0,
    max=100,
    help="How far to go in each direction, in standard deviations.",
)
@click.option(
    "--from", "image", type=PATH, metavar="IMAGE", help="Start from the latent of this image."
)
@options.seed("Seed for the starting latent, if --from is not given.")
@options.max_images
@options.resize
@options.output("traversal.png", "a strip or matrix, or an animation (.gif, .webp)")
@options.model(as_argument=True)
def command(
    labels: tuple[str, ...],
    dim: int | None,
    steps: int,
    span: float,
    image: str | None,
    seed: int,
    max_images: int,
    resize: bool,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Vary one latent dimension, or each in turn.

    A picture has one row per dimension; an animation shows all dimensions at once.
    """
    import numpy as np

    from ..console import pluralize
    from .inputs import read_images
    from .output import report, write_strips

    output.check(*options.IMAGES, inputs=(image, model_options.bundle))
    with model_options.load() as model:
        label = options.single_label(labels, model.spec)
        start = None
        if image is not None:
            start = read_images((image,), model.spec.image, 1, resize=resize).images[0]
        dims = range(model.spec.prior.coordinates) if dim is None else [dim]
        options.check_count(steps * len(dims), max_images)
        strips = [model.traverse(d, steps, label, seed, image=start, span=span) for d in dims]
        device = model.device
        kind = "dimension" if model.spec.prior.directions is None else "direction"
    write_strips(np.stack(strips), output, [f"{kind} {d}" for d in dims])
    what = f"{kind} {dim}" if dim is not None else pluralize(len(strips), kind)
    report(f"{steps} steps of {what}{output.to_path}", output, steps=steps, dims=list(dims),
           span=span, device=device)  # fmt: skip
