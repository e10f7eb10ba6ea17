"""`vae-run reconstruct`: encode images and decode them again."""

from __future__ import annotations

from dataclasses import replace

import click

from ..console import pluralize
from . import options

EPILOG = """\b
Examples:
  vae-run reconstruct digit.png
  vae-run reconstruct digits/ -o both.png
  vae-run reconstruct t10k-images-idx3-ubyte --limit 32 -o both.png
  vae-run reconstruct photos/ --resize -b mine/ -o both.png
  vae-run reconstruct digits/ --noise 0.3 -b denoiser/ -o denoised.png
  vae-run reconstruct digits/ -o again.npz --json
"""


@click.command(epilog=EPILOG)
@options.inputs(default_limit=64)
@options.number(
    "--noise",
    default=0.0,
    help="Standard deviation of the noise to add; models trained with --noise remove it.",
)
@options.seed("Seed for the added noise.")
@click.option("--error/--no-error", default=True, help="Add a row of |original - reconstruction|.")
@options.output(
    "reconstruction.png", "a picture, .npy, .npz, .csv or a folder (a name without a dot)"
)
@options.model()
def command(
    source: options.InputOptions,
    noise: float,
    seed: int,
    error: bool,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Encode images and decode them again.

    Reports the error of each image. INPUTS are image files, any data that vae-train reads (its test
    split), or - for standard input. A conditional model uses --label if given, otherwise the labels
    in the data. The rows of the picture are, from the top, the originals, the noisy images (with
    --noise), the reconstructions and the error.
    """
    import numpy as np

    from ..arrays import to_float32
    from ..grids import interleave
    from .inputs import read_inputs
    from .output import Column, report, write_images

    output.check(*options.IMAGES, inputs=(*source.inputs, model_options.bundle))
    with model_options.load() as model:
        found, label = read_inputs(source, model.spec)
        originals = to_float32(found.images)
        inputs = originals
        if noise:
            added = np.random.default_rng(seed).normal(0, noise, originals.shape)
            inputs = np.clip(originals + added, 0, 1).astype(np.float32)
        results = model.reconstruct(inputs, label)
        device = model.device
    errors = np.square(results - originals, dtype=np.float64).mean(axis=(1, 2, 3))
    writes_numbers = output.path is not None and output.extension not in options.PICTURES
    if output.show or not writes_numbers:
        layers = {"original": originals} | ({"noisy": inputs} if noise else {})
        layers |= {"reconstruction": results}
        layers |= {"difference": np.abs(results - originals)} if error else {}
        sheet, columns = interleave([*layers.values()], output.columns or 16)
        names = [name for name in layers for _ in range(columns)]
        on_screen = output.without_file() if writes_numbers else output
        write_images(Column.of(sheet), replace(on_screen, columns=columns),
                     labels=names * (len(sheet) // len(names)))  # fmt: skip
    if writes_numbers:
        extra = {"originals": Column.of(originals), "mse": Column.of(errors)}
        write_images(Column.of(results), replace(output, show=False), extra)
    n = len(errors)
    text = f"{pluralize(n, 'reconstruction')}{output.to_path}: mean squared error "
    text += f"{errors.mean():.4f} per pixel, worst {errors.max():.4f}"
    if noise:
        text += f" (of the noisy images {np.square(inputs - originals, dtype=float).mean():.4f})"
    each = [{"name": a, "mse": b} for a, b in zip(found.names, errors.tolist(), strict=True)]
    report(text, output, n=n, mse=errors.mean(), images=each, noise=noise, device=device)
