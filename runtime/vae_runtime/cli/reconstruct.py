"""`vae-run reconstruct`: originals above, reconstructions and the error below."""

from __future__ import annotations

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
@click.argument("inputs", nargs=-1, required=True)
@label_one_option
@click.option(
    "--noise",
    type=click.FloatRange(0),
    default=0.0,
    metavar="SIGMA",
    help="Add Gaussian noise first. A model of vae-train --noise takes it away.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of the noise."
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Take at most this many images.",
)
@click.option(
    "--error/--no-error",
    default=True,
    show_default=True,
    help="A row with |original - reconstruction|.",
)
@resize_option
@output_options("reconstruction.png", "A picture, .npy .npz .csv or a folder of the results.")
@model_options
def command(
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    noise: float,
    seed: int,
    limit: int,
    error: bool,
    resize: bool,
    source: Source,
    target: Target,
) -> None:
    """Encode images and decode them again; the error of each is reported.

    INPUTS are image files, folders, IDX files, .npz or .npy, or - for standard input. A conditional
    model reads --label, or else the labels that the data has. The picture has originals above
    (noisy ones next, with --noise), reconstructions and the error below.
    """
    import numpy as np

    from ..arrays import to_float32
    from ..console import pluralize
    from ..images import interleave
    from .inputs import read_pictures
    from .output import IMAGES, Column, write_images
    from .target import PICTURES

    target.check(*IMAGES)
    with source.open() as model:
        pictures = read_pictures(inputs, model.spec.image, limit, resize=resize)
        name = one_label(labels)
        label = pictures.indices(model.spec) if name is None else name
        originals = to_float32(pictures.images)
        seen = originals
        if noise:
            grain = np.random.default_rng(seed).normal(0, noise, originals.shape)
            seen = np.clip(originals + grain, 0, 1).astype(np.float32)
        again = model.reconstruct(seen, label)
        device = model.device
    errors = np.square(again - originals, dtype=np.float64).mean(axis=(1, 2, 3))
    layers = [originals, *([seen] if noise else []), again]
    layers += [np.abs(again - originals)] if error else []
    numbers = target.out is not None and target.kind not in PICTURES
    if target.show or not numbers:
        rows, columns = interleave(layers, target.columns or 16)
        sheet = target.screen() if numbers else target
        sheet.columns = None
        write_images(Column.of(rows), sheet, columns=columns)
    if numbers:
        extra = {"originals": Column.of(originals), "errors": Column.of(errors)}
        write_images(Column.of(again), target, extra)
    n = len(errors)
    text = f"{pluralize(n, 'reconstruction')}{f' to {target.out}' if target.out else ''}"
    text += f": mean squared error {errors.mean():.4f} a pixel, worst {errors.max():.4f}"
    if noise:
        before = np.square(seen - originals, dtype=np.float64).mean()
        text += f" (of the noisy images {before:.4f})"
    each = [{"name": a, "error": b} for a, b in zip(pictures.names, errors.tolist(), strict=True)]
    target.report(text, n=n, mean_error=errors.mean(), images=each, noise=noise, device=device)
