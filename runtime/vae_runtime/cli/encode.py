"""`vae-run encode`: encode images to latents, for use as features or as compressed images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ..console import pluralize, print_status
from ..dependencies import require
from ..errors import UsageError
from . import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ModelSpec
    from ..probe import Accuracy
    from .inputs import InputImages

EPILOG = """\b
Examples:
  vae-run encode digits/ -o latents.npz
  vae-run encode digit.png -o - -f csv
  vae-run encode t10k-images-idx3-ubyte.gz -o features.csv
  vae-run encode bottle/ --probe -b bottle.zip
"""


@click.command(epilog=EPILOG)
@options.inputs()
@click.option(
    "--probe/--no-probe",
    "probed",
    default=False,
    help="Report how well the latents predict the labels, beside pixels and PCA.",
)
@options.output("latents.npy", ".npy, .csv, or .npz with z, log_var and labels", pictures=False)
@options.model()
def command(
    source: options.InputOptions,
    probed: bool,
    output: options.OutputOptions,
    model_options: options.ModelOptions,
) -> None:
    """Encode images to latents.

    Reports the compression ratio; with --probe also what the latents are worth as features: the
    accuracy of a linear probe and of nearest neighbours, by five-fold cross-validation.

    INPUTS are image files, any data that vae-train reads (its test split), or - for standard input.
    A conditional encoder uses --label if given, otherwise the labels in the data.
    """
    from .inputs import read_inputs
    from .output import Column, report, write_table

    if probed:
        require("--probe", "sklearn", extra="cpu,detect")
    output.check(*options.TABLES, inputs=(*source.inputs, model_options.bundle))
    with model_options.load() as model:
        spec = model.spec
        found, label = read_inputs(source, spec)
        z, log_var = model.posterior(found.images, label)
        device = model.device
    worth = _probe(z, found, spec) if probed else {}
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
    measured = {name: accuracy._asdict() for name, accuracy in worth.items()} or None
    report(text, output, n=len(z), latent_dim=spec.latent_dim, image_bytes=image_bytes,
           latent_bytes=latent_bytes, ratio=ratio, probe=measured, device=device)  # fmt: skip
    if not output.as_json:
        for name, accuracy in worth.items():
            print_status(_describe(name, accuracy))


def _probe(z: NDArray[Any], found: InputImages, spec: ModelSpec) -> dict[str, Accuracy]:
    """Measure what the latents are worth, beside pixels and as many principal components."""
    from ..probe import principal_components, probe

    if found.labels is None:
        raise UsageError("--probe: the images have no labels. Use a folder with one per class.")
    if spec.classes:
        print_status(
            "note: the latents of a conditional model leave out what the label says. "
            "For features, train a VAE."
        )
    pca = principal_components(found.images, spec.latent_dim)
    return probe({"latents": z, "PCA": pca, "pixels": found.images}, found.labels)


def _describe(name: str, accuracy: Accuracy) -> str:
    return (
        f"{name} ({accuracy.dimensions:,} numbers): labels predicted by a linear probe "
        f"{accuracy.linear:.3f}, by nearest neighbours {accuracy.neighbours:.3f}"
    )
