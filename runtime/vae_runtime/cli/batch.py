"""`vae-run batch`: millions of images in Parquet files, on threads, processes or a cluster."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import parse_size, print_json, size_option
from . import options

if TYPE_CHECKING:
    from ..arrow.job import Summary
    from ..arrow.mapper import Options

EPILOG = """\b
Examples:
  vae-run batch import mnist mnist.parquet
  vae-run batch encode mnist.parquet latents/
  vae-run batch score "data/*.parquet" scores/ --workers 2
  vae-run batch sample 1000 images/ --seed 7 --label 3
  vae-run batch encode mnist.parquet latents/ --resume
"""


@click.group(epilog=EPILOG)
def command() -> None:
    """Process millions of images in Parquet files in constant memory.

    Needs the extra `arrow`. A row that cannot be used keeps its place, with the reason in the
    column `error`; the command finishes all other rows and then exits with 3.
    """


@dataclass(frozen=True)
class JobOptions:
    """The options of a job; those of the mapping itself are in `arrow.mapper.Options`."""

    source: str
    out: str
    bundle: str
    threads: int | None
    workers: int | None
    scheduler: str | None
    part_rows: int
    limit: int | None
    resume: bool
    as_json: bool


_JOB = (
    click.argument("source", metavar="IN"),
    click.argument("out", metavar="OUT"),
    click.option("--bundle", "-b", default="mnist", show_default="the embedded mnist",
                 help="Folder or .zip; every worker must find it at this path."),
    click.option("--variant", default="fp32", show_default=True, help="Precision of the graphs."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."),
    click.option("--label", "--digit", "-l", help="Class index or name for all rows."),
    click.option("--label-column", help="Column of labels. [default: label, if there is one]"),
    click.option("--row-column", "row", default="row", show_default=True,
                 help="Column of row numbers; added if it is missing."),
    click.option("--threads", type=click.IntRange(1),
                 help="Threads of this process. [default: one per core]"),
    click.option("--workers", type=click.IntRange(1),
                 help="Start a Dask cluster of this many processes."),
    click.option("--scheduler", help="Use a running Dask cluster: tcp://HOST:PORT."),
    click.option("--part-rows", type=click.IntRange(1), default=16_384, show_default=True,
                 help="Minimum rows per part; row groups are never cut."),
    click.option("--limit", type=click.IntRange(1), help="Take at most this many rows."),
    click.option("--resume", is_flag=True, help="Skip the parts that are finished in OUT."),
    options.as_json,
)  # fmt: skip
_image = click.option("--image-column", "image", default="image", show_default=True,
                      help="Column of images: lists of numbers, or files as bytes.")  # fmt: skip
_dtype = click.option("--dtype", type=click.Choice(["uint8", "float32", "png"]), default="uint8",
                      show_default=True, help="Type of the images in OUT.")  # fmt: skip
_seed = click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True,
                     help="Seed; results do not depend on parts or workers.")  # fmt: skip


def job_options(*more: Any) -> Callable[[Callable[[JobOptions, Options], None]], Any]:
    """The options that every verb takes, and `more`; the command gets them as two dataclasses."""

    def decorate(function: Callable[[JobOptions, Options], None]) -> Any:
        @functools.wraps(function)
        def call(**given: Any) -> None:
            from ..arrow.mapper import Options

            job = JobOptions(**{field.name: given.pop(field.name) for field in fields(JobOptions)})
            function(job, Options(**given))

        for option in reversed((*_JOB, *more)):
            call = option(call)
        return call

    return decorate


@command.command("encode")
@job_options(_image)
def encode_command(job: JobOptions, options: Options) -> None:
    """Encode images: the columns z and, of a VAE, log_var."""
    run_job("encode", job, options)


@command.command("reconstruct")
@job_options(_image, _dtype)
def reconstruct_command(job: JobOptions, options: Options) -> None:
    """Encode and decode images: the column image."""
    run_job("reconstruct", job, options)


@command.command("score")
@job_options(_image, _seed, options.samples(default=1))
def score_command(job: JobOptions, options: Options) -> None:
    """Score images: reconstruction_error per pixel; kl and negative_elbo in nats."""
    run_job("score", job, options)


@command.command("sample")
@job_options(_dtype, _seed, *options.SAMPLING)
def sample_command(job: JobOptions, options: Options) -> None:
    """Sample one image for each row of IN, or as many as IN says if it is a number."""
    run_job("sample", job, options)


@command.command("import")
@click.argument("source", metavar="DATA")
@click.argument("out", metavar="FILE.parquet")
@click.option("--split", type=click.Choice(["train", "test"]), default="train", show_default=True,
              help="Part of DATA to write.")  # fmt: skip
@size_option
def import_command(source: str, out: str, split: str, size: str | None) -> None:
    """Convert a data set to Parquet, with the columns image and label.

    DATA is mnist, digits, an .npz, or a folder of IDX files or of images.
    """
    from ..console import pluralize, print_status
    from ..datasets import load_dataset
    from ..datasets.parquet import write_dataset

    data = load_dataset(source, split, size=parse_size(size))
    write_dataset(data, Path(out))
    c, h, w = data.image_shape
    print_status(f"wrote {pluralize(len(data), 'image')} of {c}×{h}×{w} to {out}")


def run_job(verb: str, job: JobOptions, options: Options) -> None:
    """Run one job and report its outcome.

    Raises:
        UsageError: options that exclude each other.
        InputError: some rows were refused; all others are written.
    """
    from ..arrow import Mapper
    from ..arrow.job import Workers, run
    from ..arrow.plan import parse_source
    from ..errors import UsageError

    if sum(given is not None for given in (job.threads, job.workers, job.scheduler)) > 1:
        raise UsageError("--threads, --workers and --scheduler exclude each other. Use one of them")
    mapper = Mapper(verb, job.bundle, **asdict(options))
    plan = parse_source(job.source, verb, job.part_rows, job.limit)
    workers = Workers(job.threads or _cores(), job.workers or 0, job.scheduler)
    with _progress(plan.rows) as advance:
        summary = run(mapper, plan, Path(job.out), workers, resume=job.resume, advance=advance)
    _report(summary, job)


def _report(summary: Summary, job: JobOptions) -> None:
    """Print one line or a JSON summary; fail if any row was refused."""
    from ..console import pluralize, print_status
    from ..errors import InputError

    if job.as_json:
        print_json({"out": job.out, **asdict(summary)})
    parts = pluralize(summary.parts, "part")
    skipped = f" ({summary.skipped:,} already finished)" if summary.skipped else ""
    result = f"{pluralize(summary.rows, 'row')} in {parts}{skipped} to {job.out}"
    if summary.errors:
        raise InputError(
            f"{summary.errors:,} of {result} were refused; all others are written. "
            f"The column error says why; the first: {summary.first_error}"
        )
    if not job.as_json:
        print_status(f"wrote {result}, none refused")


@contextlib.contextmanager
def _progress(rows: int) -> Iterator[Callable[[int], object] | None]:
    """Show a progress bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=rows, file=sys.stderr, show_pos=True, show_eta=True) as bar:
        yield bar.update


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
