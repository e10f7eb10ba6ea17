"""A whole job: from a plan to a folder of Parquet parts and their list."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..dependencies import require
from . import engine
from .journal import Journal, describe
from .mapper import Mapper
from .part import Done, first_reason, numbered, run_part
from .plan import Plan

Advance = Callable[[int], object]


@dataclass(frozen=True)
class Where:
    """What runs a job.

    Attributes:
        threads: of this process, which work on chunks of one part at a time.
        workers: processes of a Dask cluster on this machine; 0 for none.
        scheduler: the address of a running Dask scheduler; its workers must see the same paths.
    """

    threads: int = 1
    workers: int = 0
    scheduler: str | None = None


@dataclass(frozen=True)
class Summary:
    """What a job did: parts and rows in the folder, rows with a reason in `error`, bytes.

    `skipped` parts were there already; `first_error` is the first reason, if any.
    """

    parts: int
    rows: int
    errors: int
    bytes: int
    skipped: int
    first_error: str | None


def run(
    mapper: Mapper,
    plan: Plan,
    out: Path,
    where: Where | None = None,
    *,
    resume: bool = False,
    advance: Advance | None = None,
) -> Summary:
    """Work on every part of a plan; `out/parts.json` lists the files at the end.

    Args:
        mapper: what to do with each row.
        plan: which rows.
        out: the folder for the parts.
        where: what runs it; one thread of this process by default.
        resume: skip the parts that an earlier run of the same job finished.
        advance: is told how many more rows are done.

    Raises:
        VaeError: the first error that is not of single rows; finished parts are kept.
    """
    advance = advance or (lambda _: None)
    if plan.schema is not None:
        mapper.schema(numbered(plan.schema, mapper))  # a missing column is found before any work
    journal = Journal(out, describe(mapper, plan), resume=resume)
    todo = [part for part in plan.parts if part.name not in journal.done]
    skipped = len(plan.parts) - len(todo)
    advance(sum(done.rows for done in journal.done.values()))
    with _runner(where or Where(), mapper, str(out.resolve()), advance) as results:
        for done in results(todo):
            journal.add(done)
    journal.close()
    found = [journal.done[name] for name in sorted(journal.done)]
    faulty = next((done.file for done in found if done.errors), None)
    return Summary(
        len(found),
        sum(done.rows for done in found),
        sum(done.errors for done in found),
        sum(done.bytes for done in found),
        skipped,
        None if faulty is None else first_reason(out / faulty),
    )


@contextlib.contextmanager
def _runner(
    where: Where, mapper: Mapper, out: str, advance: Advance
) -> Iterator[Callable[[Any], Iterator[Done]]]:
    """A function from parts to finished parts, in any order."""
    if where.scheduler is None and not where.workers:
        with engine.threads(where.threads) as over:
            work = partial(run_part, mapper, out, over=over, advance=advance)
            yield lambda parts: (work(part) for part in parts)
        return
    require("batch work", "distributed", extra="cpu,dask")
    cluster = (
        engine.remote_cluster(where.scheduler)
        if where.scheduler is not None
        else engine.local_cluster(where.workers)
    )

    def watched(client: Any, parts: Any) -> Iterator[Done]:
        for done in engine.on_dask(client, partial(run_part, mapper, out), parts):
            advance(done.rows)
            yield done

    with cluster as client:
        yield partial(watched, client)
