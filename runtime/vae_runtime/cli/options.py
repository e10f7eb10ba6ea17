"""Options that several commands share. Imports click alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..autoencoder import Autoencoder

F = TypeVar("F", bound=Callable[..., Any])

_MODEL = (
    click.option(
        "--bundle",
        "-b",
        default="mnist",
        show_default="the embedded mnist",
        help="Folder or .zip that vae-export wrote.",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option(
        "--threads",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Threads of one run.",
    ),
)


def model_options(command: F) -> F:
    """--bundle, --device, --threads."""
    for option in reversed(_MODEL):
        command = option(command)
    return command


def output_option(default: str, what: str) -> Callable[[F], F]:
    """-o/--out, with a default name."""
    return click.option(
        "--out",
        "-o",
        default=default,
        show_default=True,
        help=f"{what} A name without extension is a folder, one file an image; - is standard "
        "output.",
    )


label_option = click.option(
    "--label",
    "--digit",
    "-l",
    "labels",
    multiple=True,
    help="Class index or name. May be repeated.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    help="Same seed, same images. [default: a fresh one]",
)
scale_option = click.option(
    "--scale",
    type=click.IntRange(1, 64),
    help="Pixels drawn a pixel. [default: 1 for one image, grids to about 500 pixels]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to standard output.")


def open_model(bundle: str, device: str, threads: int) -> Autoencoder:
    """Load the bundle of the command line; a fall-back to the CPU is one line on standard error."""
    import warnings

    from ..autoencoder import load
    from .entry import note

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        note(f"note: {message}")

    warnings.showwarning = show
    return load(bundle, device=device, threads=threads)


def target_path(out: str) -> Path | None:
    """The path of -o, or None for standard output."""
    return None if out == "-" else Path(out)
