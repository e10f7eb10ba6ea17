"""`vae-run evaluate`: measure a model on a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..console import PATH, print_json, progress
from . import options

if TYPE_CHECKING:
    from ..metrics import Evaluation

EPILOG = """\b
Examples:
  vae-run evaluate mnist
  vae-run evaluate mnist --limit 1000 --samples 64
  vae-run evaluate photos/ --resize --bundle vae/ --json
  vae-run evaluate digits --bundle cvae/ --no-labels
"""


@click.command(epilog=EPILOG)
@click.argument("data", nargs=-1, required=True, type=PATH)
@options.limit()
@options.resize
@options.samples(16, "-k")
@click.option(
    "--binarise",
    type=click.Choice(["sample", "threshold", "none"]),
    help="How to binarise pixels for the likelihood. [default: sample for a Bernoulli likelihood, "
    "else none]",
)
@click.option(
    "--labels/--no-labels",
    default=True,
    help="Give a conditional model the labels in the data.",
)
@options.seed("Seed for the binarised pixels and the posterior samples.")
@options.as_json
@options.model()
def command(
    data: tuple[str, ...],
    limit: int | None,
    resize: bool,
    samples: int,
    binarise: str | None,
    labels: bool,
    seed: int,
    as_json: bool,
    model_options: options.ModelOptions,
) -> None:
    """Measure a model on a data set.

    Reports squared error, -ELBO, the IWAE-K bound on -log p(x) with K = --samples, and active
    units. DATA is image files, or any data that vae-train reads (its test split): mnist, fashion,
    digits, or images, IDX files, arrays or Parquet.
    """
    from ..inference.batching import BATCH_SIZE
    from .inputs import read_images

    with model_options.load() as model:
        found = read_images(data, model.spec.image, limit, resize=resize)
        known = found.indices(model.spec) if labels else None

        def watch(batches: Iterable[int]) -> Iterator[int]:
            return progress(batches, len(found), BATCH_SIZE)

        result = model.evaluate(found.images, known, samples=samples, binarise=binarise,
                                seed=seed, track=watch)  # fmt: skip
        device = model.device
    if as_json:
        print_json({"data": list(data), **result.to_json(), "device": device})
        return
    for name, value in _rows(result, device):
        click.echo(f"{name:<14} {value}")


def _rows(result: Evaluation, device: str) -> list[tuple[str, str]]:
    """Arrange the results as rows of names and values."""
    given = "given" if result.labels else "not given"
    table = [("images", f"{result.n:,}, labels {given}"), ("mse", f"{result.mse:.5f} per pixel")]
    if result.iwae is not None:
        how = {
            "sample": "each pixel drawn with its grey level as probability",
            "threshold": "pixels binarised at one half",
            "none": "grey levels as they are",
        }[result.binarised]
        table += [
            ("kl", f"{result.kl:.3f} nats"),
            ("-elbo", f"{result.negative_elbo:.3f} nats"),
            (f"iwae-{result.samples}", f"{result.iwae:.3f} nats, an upper bound on -log p(x)"),
            ("likelihood", f"{result.likelihood}, {how}"),
            ("active units", f"{result.active_units} of {result.latent_dim}"),
        ]
    return [*table, ("device", device)]
