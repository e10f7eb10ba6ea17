"""`vae-run reconstruct`: originals above, reconstructions below."""

from __future__ import annotations

import click

from .options import label_option, model_options, open_model, output_option, scale_option

EPILOG = """\b
Examples:
  vae-run reconstruct digit.png
  vae-run reconstruct digits/*.png -o both.png
  vae-run reconstruct photos/ --bundle ae/ -o both.png
"""


@click.command(epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True)
@label_option
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Take at most this many images.",
)
@click.option("--columns", type=click.IntRange(1, 1000), default=16, show_default=True)
@scale_option
@output_option("reconstruction.png", "A picture, or .npy .npz of the reconstructions.")
@model_options
def command(
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
    limit: int,
    columns: int,
    scale: int | None,
    out: str,
    bundle: str,
    device: str,
    threads: int,
) -> None:
    """Encode images and decode them again; the error of each is printed.

    INPUTS are image files, folders, IDX files, .npz or .npy, or - for standard input. A label helps
    a conditional model: give one for all images.
    """
    from ..errors import UsageError
    from .entry import note
    from .inputs import read_images
    from .output import check_target, write_result
    from .pairs import stack_pairs

    check_target(out)
    if len(labels) > 1:
        raise UsageError("reconstruct takes one --label, for all images")
    with open_model(bundle, device, threads) as model:
        originals = read_images(inputs, model.card.image, limit)
        label = labels[0] if labels else None
        again = model.reconstruct(originals, label)
    errors = ((again - originals) ** 2).mean(axis=(1, 2, 3))
    if out.endswith((".npy", ".npz")):
        written = write_result(again, out, extra={"originals": originals})
    else:
        rows, columns = stack_pairs(originals, again, columns)
        written = write_result(rows, out, columns=columns, scale=scale)
    note(
        f"wrote {written}: mean squared error {errors.mean():.4f} a pixel, worst {errors.max():.4f}"
    )
