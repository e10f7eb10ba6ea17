"""`vae-run batch`: millions of images in Parquet files, on threads, processes or a cluster."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from ..console import (
    PATH,
    parse_size,
    pluralize,
    print_json,
    print_status,
    size_option,
    track_images,
)
from ..errors import InputError, UsageError
from . import options

if TYPE_CHECKING:
    from ..arrow import Mapper
    from ..arrow.job import Summary
    from ..arrow.plan import Plan

EPILOG = """\b
Examples:
  vae-run batch import mnist mnist.parquet
  vae-run batch encode mnist.parquet latents/
  vae-run batch score "data/*.parquet" scores/ --workers 2
  vae-run batch sample 1000 images/ --seed 7 --label 3
  vae-run batch encode mnist.parquet latents/ --resume
"""
_LINE_EVERY_S = 15  # between two lines of progress in a log
_REDRAW_EVERY_S = 0.2  # of the line on a terminal


@click.group(epilog=EPILOG)
def command() -> None:
    """Process millions of images in Parquet files in constant memory.

    IN is a file, a folder, a glob or a URL such as s3://bucket/images; OUT is a folder or a URL.
    Needs the extra `arrow`. A row that cannot be used keeps its place, with the reason in the
    column `error`; the command finishes all other rows and then exits with 3.
    """


@dataclass(frozen=True)
class JobOptions:
    """Options of a whole job; the options for mapping rows are in `arrow.mapper.Options`."""

    source: str
    out: str
    bundle: str
    threads: int | None
    workers: int | None
    scheduler: str | None
    part_rows: int
    limit: int | None
    columns: str | None
    skip_unreadable: bool
    resume: bool
    as_json: bool


_JOB = (
    click.argument("source", type=PATH, metavar="IN"),
    click.argument("out", type=PATH, metavar="OUT"),
    options.bundle,
    options.variant,
    options.device,
    click.option("--label", "--digit", "-l", help="Class index or name for all rows."),
    click.option("--label-column", help="Column of labels. [default: label, if there is one]"),
    click.option("--row-column", "row", default="row",
                 help="Column of row numbers, all different; added if it is missing."),
    click.option("--columns", metavar="NAME,…",
                 help="Columns of IN to keep in OUT. [default: all except the images]"),
    options.integer("--threads", help="Threads of this process. [default: one per core]"),
    options.integer("--workers", help="Start a Dask cluster of this many processes."),
    click.option("--scheduler", help="Use a running Dask cluster: tcp://HOST:PORT. Its workers "
                 "must find all files at the same paths or URLs."),
    options.integer("--part-rows", default=16_384,
                    help="Minimum rows per part; row groups are never split."),
    options.integer("--limit", help="Take at most this many rows."),
    options.flag("--skip-unreadable", help="Leave out unreadable files, and list them."),
    options.flag("--resume", help="Skip the parts that are finished in OUT."),
    options.as_json,
)  # fmt: skip
_IMAGE = click.option("--image-column", "image", default="image",
                      help="Column of images: lists of numbers, or files as bytes.")  # fmt: skip
_DTYPE = options.choice("--dtype", "uint8", "float32", "png", help="Type of the images in OUT.")
_SEED = options.seed("Random seed; results do not depend on the number of parts or workers.")


def _add_verb(verb: str, help: str, *more: options.Decorator) -> None:
    """Add a command that maps rows; options that are not in `JobOptions` go to `Mapper`."""

    @command.command(verb, help=help)
    @options.collect("job", JobOptions, (*_JOB, *more))
    def run_verb(job: JobOptions, **mapping: Any) -> None:
        run_job(verb, job, mapping)


_add_verb("encode", "Encode images; writes z and, for a VAE, log_var.", _IMAGE)
_add_verb("reconstruct", "Encode and decode images; writes image.", _IMAGE, _DTYPE)
_add_verb("score", "Score images; writes mse, kl and negative_elbo.",
          _IMAGE, _SEED, options.samples(default=1))  # fmt: skip
_add_verb("sample", "Sample images; IN is Parquet, one image per row, or a number.",
          _DTYPE, _SEED, *options.SAMPLING)  # fmt: skip


@command.command("import")
@click.argument("source", type=PATH, metavar="DATA")
@click.argument("out", type=PATH, metavar="FILE.parquet")
@options.choice("--split", "train", "test", help="Split of DATA to write.")
@size_option
def import_command(source: str, out: str, split: str, size: str | None) -> None:
    """Convert a data set to Parquet, with the columns image and label.

    DATA is anything that vae-train reads: mnist, fashion, digits, or images, IDX files or arrays.
    FILE may be a URL.
    """
    from ..datasets import ReadOptions, log_reading, read_split
    from ..datasets.parquet import write_dataset

    data = read_split(source, split, ReadOptions(parse_size(size), track=track_images))
    log_reading(source, data, print_status)
    write_dataset(data, out)
    c, h, w = data.image_shape
    print_status(f"wrote {pluralize(len(data), 'image')} of {c}×{h}×{w} to {out}")


def run_job(verb: str, job: JobOptions, mapping: dict[str, Any]) -> None:
    """Run one job and report its outcome.

    Args:
        verb: what to do with each row.
        job: the options of the job.
        mapping: the options of `Mapper`.

    Raises:
        UsageError: mutually exclusive options were given.
        InputError: some rows were refused; all others were written.
    """
    from ..arrow import Mapper
    from ..arrow.job import Workers, run
    from ..arrow.plan import parse_source

    if sum(given is not None for given in (job.threads, job.workers, job.scheduler)) > 1:
        raise UsageError("--threads, --workers and --scheduler exclude each other. Use one of them")
    mapper = Mapper(verb, job.bundle, **mapping)
    plan = parse_source(
        job.source, verb, job.part_rows, job.limit, skip_unreadable=job.skip_unreadable
    )
    progress = _Progress(plan.rows)
    _print_notes(mapper, plan, progress)
    summary = run(
        mapper,
        plan,
        job.out,
        Workers(job.threads or _cores(), job.workers or 0, job.scheduler),
        kept=None if job.columns is None else [name for name in job.columns.split(",") if name],
        skip_unreadable=job.skip_unreadable,
        resume=job.resume,
        advance=progress.advance,
        say=progress.say,
    )
    progress.clear()
    _report(summary, job)


class _Progress:
    """Print how many rows are done: on one line of a terminal, or as a line now and then."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._started = self._last = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def advance(self, rows: int) -> None:
        """Count rows, and print if the last time is long ago."""
        self._done += rows
        now = time.monotonic()
        if now - self._last < (_REDRAW_EVERY_S if self._terminal else _LINE_EVERY_S):
            return
        self._last = now
        rate = self._done / (now - self._started)
        left = (self._total - self._done) / max(rate, 1e-9)
        line = f"{self._done:,} of {self._total:,} rows, {rate:,.0f}/s, {left:,.0f} s left"
        if self._terminal:
            click.echo(f"\r{line}\x1b[K", nl=False, err=True)
        else:
            print_status(line)

    def clear(self) -> None:
        """Remove the line from a terminal."""
        if self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def say(self, line: str) -> None:
        """Print another line."""
        self.clear()
        print_status(line)


def _print_notes(mapper: Mapper, plan: Plan, progress: _Progress) -> None:
    """Say what a user may not expect of the input."""
    from ..arrow.columns import is_double

    spec, options, names = mapper.model().spec, mapper.options, plan.schema.names
    if spec.classes and options.label is None and options.label_name(spec, names) is None:
        progress.say("no labels: there is no column label, and neither --label nor --label-column "
                     "is given")  # fmt: skip
    image = options.image if mapper.verb != "sample" else None
    if image in names and is_double(plan.schema.field(image).type):
        progress.say(f"the column {image} is float64; its numbers are rounded to float32")


def _report(summary: Summary, job: JobOptions) -> None:
    """Print one line or a JSON summary; fail if any row or file was refused."""
    if job.as_json:
        print_json({"out": job.out, **asdict(summary)})
    parts = pluralize(summary.parts, "part")
    skipped = f" ({summary.skipped:,} already finished)" if summary.skipped else ""
    result = f"{pluralize(summary.rows, 'row')} in {parts}{skipped} to {job.out}"
    for file in summary.unreadable:
        print_status(f"unreadable: {file}")
    if summary.unreadable:
        result += f", without {pluralize(len(summary.unreadable), 'unreadable file')}"
    if summary.errors:
        raise InputError(
            f"{summary.errors:,} of {result} were refused; all others are written. "
            f"The column error says why; the first: {summary.first_error}"
        )
    if summary.unreadable:
        raise InputError(f"wrote {result}")
    if not job.as_json:
        print_status(f"wrote {result}, none refused")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
