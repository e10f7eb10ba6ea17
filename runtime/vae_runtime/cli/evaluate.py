"""`vae-run evaluate`: how good a model is on a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..console import print_json
from .options import Source, json_option, limit_option, model_options, resize_option

if TYPE_CHECKING:
    from ..metrics import Evaluation

EPILOG = """\b
Examples:
  vae-run evaluate mnist
  vae-run evaluate mnist --limit 1000 --draws 64
  vae-run evaluate photos/ --resize --bundle vae/ --json
  vae-run evaluate digits --bundle cvae/ --no-labels
"""


@click.command(epilog=EPILOG)
@click.argument("data", nargs=-1, required=True)
@limit_option
@resize_option
@click.option(
    "--draws",
    "-k",
    type=click.IntRange(1, 100_000),
    default=16,
    show_default=True,
    help="K: latents an image for -ELBO and IWAE-K.",
)
@click.option(
    "--binarise",
    type=click.Choice(["sample", "threshold", "none"]),
    help="Pixels for the likelihood. [default: sample for a Bernoulli one, else none]",
)
@click.option(
    "--labels/--no-labels",
    default=True,
    show_default=True,
    help="Give a conditional model the labels that the data has.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    help="Of the pixels and latents drawn.",
)
@json_option
@model_options
def command(
    data: tuple[str, ...],
    limit: int | None,
    resize: bool,
    draws: int,
    binarise: str | None,
    labels: bool,
    seed: int,
    as_json: bool,
    source: Source,
) -> None:
    """Measure squared error, -ELBO, the IWAE-K bound on -log p(x), and active units.

    DATA is mnist or digits (their test split), a folder of images or IDX files, .npz, .npy or image
    files.
    """
    from ..console import progress
    from ..inference.batching import BATCH_SIZE
    from ..metrics import evaluate
    from .inputs import read_pictures

    with source.open() as model:
        pictures = read_pictures(data, model.spec.image, limit, resize=resize)
        known = pictures.indices(model.spec) if labels else None

        def watch(chunks: Iterable[int]) -> Iterator[int]:
            return progress(chunks, len(pictures), BATCH_SIZE)

        found = evaluate(model, pictures.images, known, draws=draws, binarise=binarise, seed=seed,
                         watch=watch)  # fmt: skip
        device = model.device
    if as_json:
        print_json({"data": list(data), **found.to_json(), "device": device})
        return
    for name, value in rows(found, device):
        click.echo(f"{name:<14} {value}")


def rows(found: Evaluation, device: str) -> list[tuple[str, str]]:
    """The table, as name and value."""
    given = "given" if found.labels else "not given"
    table = [("images", f"{found.n:,}, labels {given}"), ("mse", f"{found.mse:.5f} a pixel")]
    if found.iwae is not None:
        how = {
            "sample": "each pixel drawn with its grey level's probability",
            "threshold": "pixels cut at one half",
            "none": "grey levels as they are",
        }[found.binarised]
        table += [
            ("kl", f"{found.kl:.3f} nats"),
            ("-elbo", f"{found.negative_elbo:.3f} nats"),
            (f"iwae-{found.draws}", f"{found.iwae:.3f} nats, an upper bound on -log p(x)"),
            ("likelihood", f"{found.likelihood}, {how}"),
            ("active units", f"{found.active_units} of {found.latent_dim}"),
        ]
    return [*table, ("device", device)]
