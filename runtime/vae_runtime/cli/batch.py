"""`vae-run batch`: millions of images in Parquet, on threads, on processes or on a cluster."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..console import parse_size, size_option
from . import options

if TYPE_CHECKING:
    from ..arrow.job import Summary

EPILOG = """\b
Examples:
  vae-run batch import mnist mnist.parquet
  vae-run batch encode mnist.parquet latents/
  vae-run batch score "data/*.parquet" scores/ --workers 2
  vae-run batch sample 1000 images/ --seed 7 --label 3
  vae-run batch encode mnist.parquet latents/ --resume
"""
F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog=EPILOG)
def command() -> None:
    """Work on millions of images in Parquet files, in constant memory.

    Needs the extra `dask`. A row that cannot be used keeps its place, its reason stands in the
    column `error`, and the command exits with 3 when all others are done.
    """


_JOB = (
    click.argument("source", metavar="IN"),
    click.argument("out", metavar="OUT"),
    click.option("--bundle", "-b", default="mnist", show_default="the embedded mnist",
                 help="Folder or .zip; every worker must find it at this path."),
    click.option("--variant", default="fp32", show_default=True, help="Precision of the graphs."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--label", "--digit", "-l", help="Class index or name, for all rows."),
    click.option("--label-column", help="Column of labels. [default: label, if there is one]"),
    click.option("--row-column", "row", default="row", show_default=True,
                 help="Column of row numbers; made where it is missing."),
    click.option("--threads", type=click.IntRange(1), help="Of this process. [default: all cores]"),
    click.option("--workers", type=click.IntRange(1), help="Start a Dask cluster of N processes."),
    click.option("--scheduler", help="Use a running Dask cluster: tcp://HOST:PORT."),
    click.option("--part-rows", type=click.IntRange(1), default=16_384, show_default=True,
                 help="Rows of a part, at least: row groups are not cut."),
    click.option("--limit", type=click.IntRange(1), help="Stop after this many rows."),
    click.option("--resume", is_flag=True, help="Skip the parts that are finished in OUT."),
    options.as_json,
)  # fmt: skip
_image = click.option("--image-column", "image", default="image", show_default=True,
                      help="Column of images: lists of numbers, or files as bytes.")  # fmt: skip
_dtype = click.option("--dtype", type=click.Choice(["uint8", "float32", "png"]), default="uint8",
                      show_default=True, help="Of the images that come out.")  # fmt: skip
_seed = click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True,
                     help="Row i has draws of its own, whatever the parts.")  # fmt: skip


def job_options(function: F) -> F:
    """IN, OUT and what all verbs share."""
    for option in reversed(_JOB):
        function = option(function)
    return function


@command.command("encode")
@job_options
@_image
def encode_command(**chosen: Any) -> None:
    """Turn images into latents: the column z, and log_var of a VAE."""
    start("encode", **chosen)


@command.command("reconstruct")
@job_options
@_image
@_dtype
def reconstruct_command(**chosen: Any) -> None:
    """Encode and decode images: the column image."""
    start("reconstruct", **chosen)


@command.command("score")
@job_options
@_image
@_seed
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True,
              help="Codes drawn an image for negative_elbo.")  # fmt: skip
def score_command(**chosen: Any) -> None:
    """Score images: reconstruction_error a pixel, kl and negative_elbo in nats."""
    start("score", **chosen)


@command.command("sample")
@job_options
@_dtype
@_seed
@options.sampling()
def sample_command(sampling: options.SamplingOptions, **chosen: Any) -> None:
    """Draw one image a row of IN, which may be a number of rows instead."""
    start("sample", **vars(sampling), **chosen)


@command.command("import")
@click.argument("source", metavar="DATA")
@click.argument("out", metavar="FILE.parquet")
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True)
@size_option
def import_command(source: str, out: str, split: str, size: str | None) -> None:
    """Write a data set as Parquet: the columns image and label.

    DATA is mnist, digits, a folder of IDX files or of images, or an .npz.
    """
    from ..console import pluralize, print_status
    from ..datasets import load_dataset
    from ..datasets.parquet import write_dataset

    data = load_dataset(source, split, size=parse_size(size))
    write_dataset(data, Path(out))
    c, h, w = data.image_shape
    print_status(f"wrote {pluralize(len(data), 'image')} of {c}×{h}×{w} to {out}")


def start(
    verb: str,
    source: str,
    out: str,
    bundle: str,
    threads: int | None,
    workers: int | None,
    scheduler: str | None,
    part_rows: int,
    limit: int | None,
    resume: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run one job and say what came of it.

    Raises:
        UsageError: options that clash.
        InputError: some rows were refused; all others are written.
    """
    from ..arrow import Mapper
    from ..arrow.job import Where, run
    from ..arrow.plan import parse_source
    from ..errors import UsageError

    if sum(given is not None for given in (threads, workers, scheduler)) > 1:
        raise UsageError("--threads, --workers and --scheduler: expected one of them")
    mapper = Mapper(verb, bundle, **settings)
    plan = parse_source(source, verb, part_rows, limit)
    where = Where(threads or _cores(), workers or 0, scheduler)
    with _progress(plan.rows) as advance:
        summary = run(mapper, plan, Path(out), where, resume=resume, advance=advance)
    report(summary, out, as_json)


def report(summary: Summary, out: str, as_json: bool) -> None:
    """One line, or the facts as JSON; bad rows are an error of their own."""
    from ..console import pluralize, print_json, print_status
    from ..errors import InputError

    if as_json:
        print_json({"out": out, **vars(summary)})
    skipped = f", {summary.skipped:,} of them from an earlier run" if summary.skipped else ""
    words = (
        f"{pluralize(summary.rows, 'row')} in {pluralize(summary.parts, 'part')} to {out}{skipped}"
    )
    if summary.errors:
        raise InputError(
            f"{summary.errors:,} of {words} were refused; all others are written. "
            f"The column error says why; the first: {summary.first_error}"
        )
    if not as_json:
        print_status(f"wrote {words}, none refused")


@contextlib.contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], object] | None]:
    """A bar on standard error, on a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=rows, file=sys.stderr, show_pos=True, show_eta=True) as bar:
        yield bar.update


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
