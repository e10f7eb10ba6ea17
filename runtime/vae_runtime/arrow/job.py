"""Run a job: turn a plan into a folder of self-describing Parquet parts.

Each part's Parquet metadata records its provenance: its job and its position in that job. Thus the
folder needs no other files, any Parquet reader reads it as one data set, and an interrupted job
resumes from the parts alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .._version import __version__
from ..dependencies import require
from ..errors import InputError
from . import engine, storage
from .columns import RowErrors, read_integers
from .mapper import ERROR, Mapper
from .plan import Part, Plan
from .reader import MAX_ROWS, gather, read_batches, read_part, read_source, rows_per_call

METADATA_KEY = b"vae_onnx"
_FORMAT = 1
_GROUP_BYTES = 16 << 20  # bytes per output row group
_FOOTERS_AT_ONCE = 16  # read concurrently

Advance = Callable[[int], object]  # called with the number of rows just finished
# The builtin `map`, or a function that maps several batches concurrently and keeps the order.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Workers:
    """The workers of a job: threads, local processes or a Dask cluster.

    Attributes:
        threads: threads of this process, which work together on one part at a time.
        processes: number of processes in a new local Dask cluster; 0 starts no cluster.
        scheduler: address of a running Dask scheduler; its workers must see the same files.
    """

    threads: int = 1
    processes: int = 0
    scheduler: str | None = None


@dataclass(frozen=True)
class Summary:
    """The outcome of a job.

    Attributes:
        parts: number of files in the folder.
        rows: number of rows in all parts.
        errors: number of rows that have a reason in the column `error`.
        bytes: total size of all parts in bytes.
        skipped: number of parts that an earlier run had finished.
        first_error: the first reason, or None if there are no errors.
        unreadable: input files of which some or all rows could not be read.
    """

    parts: int
    rows: int
    errors: int
    bytes: int
    skipped: int
    first_error: str | None
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """A job, as sent to every worker that writes parts of it.

    Attributes:
        mapper: what to do with each row.
        place: where the input files are.
        out: folder or URL for the parts, absolute.
        columns: schema of the columns to read, without added row numbers.
        schema: schema of every part.
        input_sha256: checksum of the plan.
        parts: number of parts.
        skip_unreadable: mark the rows of damaged files as errors, instead of ending the job.
    """

    mapper: Mapper
    place: str
    out: str
    columns: Any
    schema: Any
    input_sha256: str
    parts: int
    skip_unreadable: bool = False

    @classmethod
    def of(
        cls,
        mapper: Mapper,
        plan: Plan,
        out: str | Path,
        *,
        kept: list[str] | None = None,
        skip_unreadable: bool = False,
    ) -> Job:
        """Build a job from a mapper, a plan, an output folder and the columns to keep.

        Raises:
            UsageError: the input lacks a column that is to be read or kept.
        """
        columns = pa.schema([plan.schema.field(n) for n in mapper.columns(plan.schema.names, kept)])
        schema, row = columns, mapper.options.row
        if row not in schema.names:
            schema = schema.append(pa.field(row, pa.int64()))
        return cls(
            mapper, plan.place, storage.absolute(out), columns, mapper.schema(schema), plan.sha256,
            len(plan.parts), skip_unreadable,
        )  # fmt: skip

    def provenance(self, part: Part) -> dict[str, Any]:
        """Return the metadata that identifies a part; equal provenance means an equal file."""
        return {
            "format": _FORMAT,
            "verb": self.mapper.verb,
            "bundle_sha256": self.mapper.sha256,
            "options": asdict(self.mapper.options),
            "input_sha256": self.input_sha256,
            "columns": self.schema.names,
            "parts": self.parts,
            "part": part.number,
            "start": part.start,
            "rows": part.rows,
        }


@dataclass(frozen=True)
class FinishedPart:
    """A written part: its name, rows, rows with an error, bytes, and unreadable input files."""

    name: str
    rows: int
    errors: int
    bytes: int
    unreadable: tuple[str, ...] = ()


def run(
    mapper: Mapper,
    plan: Plan,
    out: str | Path,
    workers: Workers | None = None,
    *,
    kept: list[str] | None = None,
    skip_unreadable: bool = False,
    resume: bool = False,
    advance: Advance | None = None,
    say: engine.Say = lambda _: None,
) -> Summary:
    """Write every part of a plan.

    Args:
        mapper: what to do with each row.
        plan: the rows, divided into parts.
        out: folder or URL for the parts; created if it is missing.
        workers: where to run; the default is one thread of this process.
        kept: input columns to keep in the parts; None means all.
        skip_unreadable: keep the rows of damaged files as rows with an error.
        resume: skip the parts that an earlier run of the same job finished.
        advance: called with the number of rows just finished.
        say: called with a line for the user, for example the address of a dashboard.

    Raises:
        InputError: the folder holds other files, or parts of another job; or row numbers repeat.
        VaeError: the first error that affects more than single rows; finished parts are kept.
    """
    advance = advance or (lambda _: None)
    _check_row_numbers(mapper, plan)
    job = Job.of(mapper, plan, out, kept=kept, skip_unreadable=skip_unreadable)
    finished = _open_folder(job, plan, resume=resume)
    skipped = len(finished)
    advance(sum(part.rows for part in finished.values()))
    todo = [part for part in plan.parts if part.name not in finished]
    for done in _run_parts(job, todo, workers or Workers(), advance, say):
        finished[done.name] = done
    storage.remove_temporary(job.out)
    found = [finished[name] for name in sorted(finished)]
    faulty = next((part.name for part in found if part.errors), None)
    return Summary(
        parts=len(found),
        rows=sum(part.rows for part in found),
        errors=sum(part.errors for part in found),
        bytes=sum(part.bytes for part in found),
        skipped=skipped,
        first_error=None if faulty is None else _first_error(job, faulty),
        unreadable=tuple(sorted({*plan.unreadable, *(f for p in found for f in p.unreadable)})),
    )


def _run_parts(
    job: Job, parts: list[Part], workers: Workers, advance: Advance, say: engine.Say
) -> Iterator[FinishedPart]:
    """Write parts and yield each one when it is finished, in order of completion."""
    if workers.scheduler is None and not workers.processes:
        with engine.threads(workers.threads) as run_map:
            for part in parts:
                yield write_part(job, part, run_map, advance)
        return
    require("batch work", "distributed", extra="cpu,arrow")
    cluster = (
        engine.local_cluster(workers.processes)
        if workers.scheduler is None
        else engine.remote_cluster(workers.scheduler)
    )
    with cluster as client:
        if "dashboard" in client.scheduler_info()["services"]:
            say(f"dashboard of the workers: {client.dashboard_link}")
        for done in engine.on_dask(client, partial(write_part, job), parts, say):
            advance(done.rows)
            yield done


def _check_row_numbers(mapper: Mapper, plan: Plan) -> None:
    """Refuse row numbers of the input that repeat, if random numbers depend on them."""
    name = mapper.options.row
    if name not in plan.schema.names or not mapper.needs_row_numbers():
        return
    what = f"the input's column {name!r}"
    advice = "Use --row-column NAME to number the rows in a new column."
    found, numbers = [], pa.schema([plan.schema.field(name)])
    for part in plan.parts:
        for source in part.sources:
            for table in read_source(source, plan.place, numbers, MAX_ROWS):
                try:
                    found.append(read_integers(table[name], what, RowErrors(table.num_rows)))
                except InputError as error:
                    raise InputError(f"{error}. {advice}") from error
    rows = np.sort(np.concatenate(found))
    repeated = rows[1:][rows[1:] == rows[:-1]]
    if len(repeated):
        raise InputError(
            f"{what} repeats numbers, for example {repeated[0]}, expected a different one for each "
            f"row, because they determine the random numbers. {advice}"
        )


# One part


def write_part(
    job: Job, part: Part, run_map: Map = map, advance: Advance = lambda _: None
) -> FinishedPart:
    """Map the rows of one part and write the results to its file, in constant memory.

    The file gets its name when it is complete.

    Args:
        job: the job.
        part: the rows to map.
        run_map: the `map` to apply to the batches.
        advance: called with the number of rows just mapped.

    Raises:
        FileError: a file cannot be read or written.
        InputError: an input file is damaged, or has changed since the job was planned.
    """
    # Pixels and latents rarely repeat, so dictionary encoding would only cost time.
    plain = [field.name for field in job.schema if not pa.types.is_nested(field.type)]
    options: dict[str, Any] = {"use_dictionary": plain, "write_page_checksum": True}
    rows = errors = 0
    unreadable: list[str] = []
    with storage.writing_file(job.out, part.name) as path:
        with pq.ParquetWriter(path, job.schema, **options) as writer:
            mapped = run_map(job.mapper, _read(job, part, unreadable))
            for group in gather(_counted(mapped, advance), _GROUP_BYTES):
                writer.write_table(group, row_group_size=group.num_rows)
                rows += group.num_rows
                errors += group.num_rows - group.column(ERROR).null_count
                del group  # free this group before the next one is collected
            footer = {**job.provenance(part), "errors": errors, "version": __version__,
                      "unreadable": unreadable}  # fmt: skip
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(footer, ensure_ascii=False)})
        if rows != part.rows:
            raise InputError(
                f"{part.name}: {rows} rows read, expected {part.rows}: the input has changed"
            )
        size = path.stat().st_size
    return FinishedPart(part.name, rows, errors, size, tuple(unreadable))


def _read(job: Job, part: Part, unreadable: list[str]) -> Iterator[Any]:
    rows = rows_per_call(job.mapper.model().spec.image.shape)
    damaged = unreadable if job.skip_unreadable else None
    return read_part(part, job.place, job.columns, job.mapper.options.row, rows, damaged)


def _counted(tables: Iterable[Any], advance: Advance) -> Iterator[Any]:
    for table in tables:
        advance(table.num_rows)
        yield table


# Resuming


def _open_folder(job: Job, plan: Plan, *, resume: bool) -> dict[str, FinishedPart]:
    """Create the folder, or check that it holds only this job's parts; return the intact parts."""
    sizes = storage.list_files(job.out)
    if sizes and not resume:
        raise InputError(
            f"{job.out}: not empty, it holds {next(iter(sizes))}. Name another folder, or use "
            "--resume."
        )
    parts = {part.name: part for part in plan.parts}
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        # Check all footers before reading any page, so that a wrong folder is refused quickly.
        read = pool.map(lambda name: _read_provenance(job, parts.get(name), name), sizes)
        found = dict(zip(sizes, read, strict=True))
    storage.remove_temporary(job.out)
    finished = {}
    for name, footer in found.items():
        if footer is not None and type(errors := footer.get("errors")) is int:
            part = FinishedPart(
                name, parts[name].rows, errors, sizes[name], tuple(footer.get("unreadable", ()))
            )
            # An object store keeps the checksum of a complete object and verifies it.
            if storage.is_object_store(job.out) or _is_intact(job, part):
                finished[name] = part
    return finished


def _read_provenance(job: Job, part: Part | None, name: str) -> dict[str, Any] | None:
    """Refuse a file of another job; return its provenance, or None for a damaged file."""
    file = storage.join(job.out, name)
    unrelated = InputError(f"{file}: not a part of this job. Name another folder.")
    if part is None:
        raise unrelated
    try:
        with storage.open_parquet(job.out, name) as opened:
            text = (opened.metadata.metadata or {}).get(METADATA_KEY)
    except InputError:
        return None
    if text is None:
        raise unrelated
    try:
        found = json.loads(text)
        found = {**found, "options": {**found["options"]}}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file}: damaged provenance. Delete it to write it again.") from error
    expected = job.provenance(part)
    for seen, wanted in ((found["options"], expected.pop("options")), (found, expected)):
        for key, value in wanted.items():
            if seen.get(key) != value:
                raise InputError(
                    f"{file}: from another job: its {key} is {_shorten(seen.get(key))}, "
                    f"expected {_shorten(value)}. Name another folder."
                )
    return found


def _is_intact(job: Job, part: FinishedPart) -> bool:
    """Read the whole part; return whether its checksums, schema and counts are as expected."""
    rows = errors = 0
    try:
        with storage.open_parquet(job.out, part.name) as opened:
            if not opened.schema_arrow.equals(_stored_schema(job.schema)):
                return False
        for batch in read_batches(job.out, part.name, rows=MAX_ROWS):
            rows += batch.num_rows
            errors += batch.num_rows - batch.column(ERROR).null_count
    except InputError:
        return False
    return (rows, errors) == (part.rows, part.errors)


def _stored_schema(schema: Any) -> Any:
    """Return the schema that is read back from a file that was written with `schema`."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_batches([], schema), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))


def _first_error(job: Job, name: str) -> str:
    """Return the first reason in the column `error` of a part that has errors."""
    with storage.open_parquet(job.out, name) as opened:
        reason: str = opened.read(columns=[ERROR])[ERROR].drop_null()[0].as_py()
    return reason


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 20 else f"{text[:13]}…"
