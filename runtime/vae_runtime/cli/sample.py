"""`vae-run sample`: draw images from the latent prior."""

from __future__ import annotations

from typing import Any

import click

from .options import (
    label_option,
    model_options,
    open_model,
    output_option,
    scale_option,
    seed_option,
)

EPILOG = """\b
Examples:
  vae-run sample --digit 3
  vae-run sample --digit 3 -n 16 --seed 0 -o threes.png
  vae-run sample --digit 7 --digit 8 -n 8 -o grid.png     eight of each, a row a digit
  vae-run sample --digit all -n 10 -o digits.png
  vae-run sample -n 1000 --seed 1 -o samples.npz          floats, labels and codes
  vae-run sample --digit 5 -o - | display
"""


@click.command(epilog=EPILOG)
@label_option
@click.option(
    "-n",
    "--count",
    "n",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images of each label.",
)
@seed_option
@click.option(
    "--prior",
    type=click.Choice(["fitted", "normal"]),
    default="fitted",
    show_default=True,
    help="The bundle's own prior, or N(0, I).",
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Spread of the codes; less is more typical.",
)
@click.option("--truncation", type=float, help="Redraw codes beyond this many deviations.")
@click.option("--columns", type=click.IntRange(1), help="Of the grid. [default: one row a label]")
@scale_option
@output_option("sample.png", "A grid picture, or .npy .npz .csv.")
@model_options
def command(
    labels: tuple[str, ...],
    n: int,
    seed: int | None,
    columns: int | None,
    scale: int | None,
    out: str,
    bundle: str,
    device: str,
    threads: int,
    **draw: Any,
) -> None:
    """Draw images from the latent prior, of a class where the model has classes."""
    import numpy as np

    from ..arrays import class_index
    from ..prior import fresh_seed
    from .entry import note
    from .output import check_target, write_result

    check_target(out)
    with open_model(bundle, device, threads) as model:
        classes = model.card.classes
        names = list(classes) if "all" in labels and "all" not in classes else list(labels)
        wanted = [class_index(name, classes) for name in names]
        label = np.repeat(wanted, n).astype(np.int64) if wanted else None
        total = n * max(1, len(wanted))
        seed = fresh_seed() if seed is None else seed
        images = model.sample(total, label, seed, **draw)
    columns = columns or (n if len(wanted) > 1 else None)
    extra = {} if label is None else {"labels": label}
    written = write_result(images, out, columns=columns, scale=scale, extra=extra)
    note(f"wrote {written} (seed {seed})")
