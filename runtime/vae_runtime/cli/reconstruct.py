"""`vae-run reconstruct`: encode images and decode them again."""

from __future__ import annotations

import click

from ..console import pluralize
from . import options

EPILOG = """\b
Examples:
  vae-run reconstruct digit.png
  vae-run reconstruct digits/ -o both.png
  vae-run reconstruct t10k-images-idx3-ubyte --limit 32 -o both.png
  vae-run reconstruct photos/ --resize -b mine/ -o both.png
  vae-run reconstruct digits/ -o again.npz --json
"""


@click.command(epilog=EPILOG)
@options.inputs(default_limit=64)
@click.option("--error/--no-error", default=True, help="Add a row of |original - reconstruction|.")
@options.output(
    "reconstruction.png", "a picture, .npy, .npz, .csv or a folder (a name without a dot)"
)
@options.model()
def command(
    source: options.InputOptions,
    error: bool,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Encode images and decode them again.

    Reports the error of each image. INPUTS are image files, any data that vae-train reads (its test
    split), or - for standard input. A conditional model uses --label if given, otherwise the labels
    in the data. The rows of the picture are, from the top, the originals, the reconstructions and
    the error.
    """
    import numpy as np

    from ..arrays import to_float32
    from .inputs import read_inputs
    from .output import Column, report, write_layers

    output.check(*options.IMAGES, inputs=(*source.inputs, model_options.bundle))
    with model_options.load() as model:
        found, label = read_inputs(source, model.spec)
        originals = to_float32(found.images)
        results = model.reconstruct(originals, label)
        device = model.device
    errors = np.square(results - originals, dtype=np.float64).mean(axis=(1, 2, 3))
    layers = {"original": originals, "reconstruction": results}
    layers |= {"difference": np.abs(results - originals)} if error else {}
    extra = {"originals": Column.of(originals), "mse": Column.of(errors)}
    write_layers(layers, output, results, extra)
    n = len(errors)
    text = f"{pluralize(n, 'reconstruction')}{output.to_path}: mean squared error "
    text += f"{errors.mean():.4f} per pixel, worst {errors.max():.4f}"
    each = [{"name": a, "mse": b} for a, b in zip(found.names, errors.tolist(), strict=True)]
    report(text, output, n=n, mse=errors.mean(), images=each, device=device)
