"""`vae-run decompress`: get images back from a `.vaez` file."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import PATH
from . import options

EPILOG = """\b
Examples:
  vae-run decompress digits.vaez -o again.png
  vae-run decompress digits.vaez -o again.npz
"""


@click.command(epilog=EPILOG)
@click.argument("file", type=PATH)
@options.max_images
@options.output(
    "decompressed.png", "an image grid, .npy, .npz, .csv or a folder (a name without a dot)"
)
@options.model()
def command(
    file: str,
    max_images: int,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Get images back from a .vaez file.

    FILE is what vae-run compress wrote, with the same bundle.
    """
    from ..compression import decompress, read_header
    from ..files.reading import read_bytes
    from .output import Column, describe_images, report, write_images

    output.check(*options.IMAGES, inputs=(file, model_options.bundle))
    raw = read_bytes(Path(file))
    options.check_count(read_header(raw, file)[0].n, max_images)
    with model_options.load() as model:
        images = decompress(model, raw, file)
        device = model.device
    write_images(Column.of(images), output)
    report(describe_images(len(images), output), output, n=len(images), device=device)
