"""`vae-run encode`: encode images to latents, for use as features or as compressed images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..console import pluralize
from . import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPILOG = """\b
Examples:
  vae-run encode digits/ -o latents.npz
  vae-run encode digit.png -o - -f csv
  vae-run encode t10k-images-idx3-ubyte.gz -o features.csv
"""


@click.command(epilog=EPILOG)
@options.inputs()
@options.output("latents.npy", ".npy, .csv, or .npz with z, log_var and labels", pictures=False)
@options.model()
def command(
    source: options.InputOptions,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Encode images to latents.

    Reports the compression ratio. INPUTS are image files, any data that vae-train reads (its test
    split), or - for standard input. A conditional encoder uses --label if given, otherwise the
    labels in the data.
    """
    from .inputs import read_inputs
    from .output import Column, report, write_table

    output.check(*options.TABLES, inputs=(*source.inputs, model_options.bundle))
    with model_options.load() as model:
        spec = model.spec
        found, label = read_inputs(source, spec)
        z, log_var = model.posterior(found.images, label)
        device = model.device
    arrays: dict[str, NDArray[Any] | None] = {"log_var": log_var, "labels": found.indices(spec)}
    extra = {name: Column.of(array) for name, array in arrays.items() if array is not None}
    write_table(Column.of(z), output, extra, name="z")
    c, h, w = spec.image.shape
    image_bytes, latent_bytes = c * h * w, z.dtype.itemsize * spec.latent_dim
    ratio = image_bytes / latent_bytes
    text = (
        f"{pluralize(len(z), 'latent')} of {pluralize(spec.latent_dim, 'number')}{output.to_path}: "
        f"{image_bytes:,} bytes of pixels to {latent_bytes:,} per image, ratio {ratio:.1f}"
    )
    report(text, output, n=len(z), latent_dim=spec.latent_dim, image_bytes=image_bytes,
           latent_bytes=latent_bytes, ratio=ratio, device=device)  # fmt: skip
