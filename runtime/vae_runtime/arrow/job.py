"""Run a job: turn a plan into a folder of self-describing Parquet parts.

Each part's Parquet metadata records its provenance: its job and its position in that job. Thus the
folder needs no other files, any Parquet reader reads it as one data set, and an interrupted job
resumes from the parts alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .._version import __version__
from ..dependencies import require
from ..errors import FileError, InputError, describe_os_error
from ..files.atomic import writing
from . import engine
from .mapper import ERROR, Mapper
from .parquet_files import open_parquet, read_batches
from .plan import Part, Plan

if TYPE_CHECKING:
    from ..bundle.spec import ImageSpec

METADATA_KEY = b"vae_onnx"
_FORMAT = 1
_BATCH_BYTES = 8 << 20  # pixels per batch, as float32
_GROUP_BYTES = 16 << 20  # bytes per output row group
_MAX_ROWS = 4096  # per batch

Advance = Callable[[int], object]  # called with the number of rows just finished
# The builtin `map`, or a function that maps several batches concurrently and keeps the order.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Workers:
    """The workers of a job: threads, local processes or a Dask cluster.

    Attributes:
        threads: threads of this process, which work together on one part at a time.
        processes: number of processes in a new local Dask cluster; 0 starts no cluster.
        scheduler: address of a running Dask scheduler; its workers must see the same file paths.
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
    """

    parts: int
    rows: int
    errors: int
    bytes: int
    skipped: int
    first_error: str | None


@dataclass(frozen=True)
class Job:
    """A job, as sent to every worker that writes parts of it.

    Attributes:
        mapper: what to do with each row.
        out: folder for the parts, an absolute path.
        schema: schema of every part.
        input_sha256: checksum of the plan.
        parts: number of parts.
    """

    mapper: Mapper
    out: Path
    schema: Any
    input_sha256: str
    parts: int

    @classmethod
    def of(cls, mapper: Mapper, plan: Plan, out: Path) -> Job:
        """Build a job from a mapper, a plan and an output folder.

        Raises:
            UsageError: the input lacks a column that the mapper needs.
        """
        schema, name = plan.schema or pa.schema([]), mapper.options.row
        if name not in schema.names:
            schema = schema.append(pa.field(name, pa.int64()))
        return cls(mapper, out.resolve(), mapper.schema(schema), plan.sha256, len(plan.parts))

    def provenance(self, part: Part) -> dict[str, Any]:
        """Return the metadata that identifies a part; equal provenance means an equal file."""
        return {
            "format": _FORMAT,
            "verb": self.mapper.verb,
            "bundle_sha256": self.mapper.sha256,
            "options": asdict(self.mapper.options),
            "input_sha256": self.input_sha256,
            "parts": self.parts,
            "part": part.number,
            "start": part.start,
            "rows": part.rows,
        }


@dataclass(frozen=True)
class FinishedPart:
    """A written part: its file, number of rows, number of rows with an error, and size in bytes."""

    file: Path
    rows: int
    errors: int
    bytes: int


def run(
    mapper: Mapper,
    plan: Plan,
    out: Path,
    workers: Workers | None = None,
    *,
    resume: bool = False,
    advance: Advance | None = None,
) -> Summary:
    """Write every part of a plan.

    Args:
        mapper: what to do with each row.
        plan: the rows, divided into parts.
        out: folder for the parts; created if it is missing.
        workers: where to run; the default is one thread of this process.
        resume: skip the parts that an earlier run of the same job finished.
        advance: called with the number of rows just finished.

    Raises:
        InputError: the folder holds other files, or parts of another job.
        VaeError: the first error that affects more than single rows; finished parts are kept.
    """
    advance = advance or (lambda _: None)
    job = Job.of(mapper, plan, out)
    finished = _open_folder(job, plan, out, resume=resume)
    skipped = len(finished)
    advance(sum(part.rows for part in finished.values()))
    todo = [part for part in plan.parts if part.name not in finished]
    for done in _run_parts(job, todo, workers or Workers(), advance):
        finished[done.file.name] = done
    _remove_temporary(out)
    found = [finished[name] for name in sorted(finished)]
    faulty = next((part.file for part in found if part.errors), None)
    return Summary(
        parts=len(found),
        rows=sum(part.rows for part in found),
        errors=sum(part.errors for part in found),
        bytes=sum(part.bytes for part in found),
        skipped=skipped,
        first_error=None if faulty is None else _first_error(faulty),
    )


def _run_parts(
    job: Job, parts: list[Part], workers: Workers, advance: Advance
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
        for done in engine.on_dask(client, partial(write_part, job), parts):
            advance(done.rows)
            yield done


# One part


def write_part(
    job: Job, part: Part, run_map: Map = map, advance: Advance = lambda _: None
) -> FinishedPart:
    """Map the rows of one part and write the results to its file, in constant memory.

    The file keeps a temporary name, which begins with a dot, until it is complete and on disk.

    Args:
        job: the job.
        part: the rows to map.
        run_map: the `map` to apply to the batches.
        advance: called with the number of rows just mapped.

    Raises:
        FileError: a file cannot be read or written.
        InputError: an input file is damaged, or has changed since the job was planned.
    """
    target = job.out / part.name
    # Pixels and latents rarely repeat, so dictionary encoding would only cost time.
    plain = [field.name for field in job.schema if not pa.types.is_nested(field.type)]
    options: dict[str, Any] = {"use_dictionary": plain, "write_page_checksum": True}
    rows = errors = 0
    with writing(target) as temporary:
        with pq.ParquetWriter(temporary, job.schema, **options) as writer:
            mapped = run_map(job.mapper, _input_tables(part, job.mapper))
            for group in _row_groups(mapped, advance):
                writer.write_table(group, row_group_size=group.num_rows)
                rows += group.num_rows
                errors += group.num_rows - group.column(ERROR).null_count
                del group  # free this group before the next one is collected
            footer = {**job.provenance(part), "errors": errors, "version": __version__}
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(footer, ensure_ascii=False)})
        if rows != part.rows:
            raise InputError(
                f"{part.name}: {rows} rows read, expected {part.rows}: the input has changed"
            )
    return FinishedPart(target, rows, errors, target.stat().st_size)


def batch_rows(spec: ImageSpec) -> int:
    """Return how many rows to map together, so that they hold a few megabytes of pixels."""
    c, h, w = spec.shape
    return max(1, min(_MAX_ROWS, _BATCH_BYTES // (4 * c * h * w)))


def _input_tables(part: Part, mapper: Mapper) -> Iterator[Any]:
    """Read the part's rows as tables; add the column of row numbers if it is missing."""
    size = batch_rows(mapper.model().spec.image)
    name = mapper.options.row
    start, end = part.start, part.start + part.rows
    if not part.sources:
        for first in range(start, end, size):
            yield pa.table({name: np.arange(first, min(first + size, end))})
    for source in part.sources:
        for batch in read_batches(source.file, size, source.groups):
            table = pa.Table.from_batches([batch]).slice(0, end - start)  # a limit may cut it
            if name not in table.column_names:
                numbers = pa.array(np.arange(start, start + table.num_rows), pa.int64())
                table = table.append_column(name, numbers)
            yield table
            start += table.num_rows
            if start == end:
                return


def _row_groups(tables: Iterable[Any], advance: Advance) -> Iterator[Any]:
    """Concatenate tables into row groups of at least `_GROUP_BYTES`."""
    pending: list[Any] = []
    for table in tables:
        pending.append(table)
        advance(table.num_rows)
        if sum(table.nbytes for table in pending) >= _GROUP_BYTES:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)


# Resuming


def _open_folder(job: Job, plan: Plan, out: Path, *, resume: bool) -> dict[str, FinishedPart]:
    """Create the folder, or check that it holds only this job's parts; return the intact parts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Parquet readers skip these names too.
        names = sorted(path.name for path in out.iterdir() if path.name[0] not in "._")
    except OSError as error:
        raise FileError(f"{out}: {describe_os_error(error)}") from error
    if names and not resume:
        raise InputError(
            f"{out}: not empty, it holds {names[0]}. Name another folder, or use --resume."
        )
    parts = {part.name: part for part in plan.parts}
    # Check all footers before reading any page, so that a wrong folder is refused quickly.
    errors = {name: _check_provenance(job, parts.get(name), out / name) for name in names}
    _remove_temporary(out)
    finished = {}
    for name, count in errors.items():
        part = FinishedPart(out / name, parts[name].rows, count or 0, (out / name).stat().st_size)
        if count is not None and _is_intact(job, part):
            finished[name] = part
    return finished


def _check_provenance(job: Job, part: Part | None, file: Path) -> int | None:
    """Refuse a file of another job; return the file's error count, or None for a damaged file."""
    unrelated = InputError(f"{file}: not a part of this job. Name another folder.")
    if part is None:
        raise unrelated
    try:
        with open_parquet(file) as opened:
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
        for name, value in wanted.items():
            if seen.get(name) != value:
                raise InputError(
                    f"{file}: from another job: its {name} is {_shorten(seen.get(name))}, "
                    f"expected {_shorten(value)}. Name another folder."
                )
    errors = found.get("errors")
    return errors if type(errors) is int else None


def _is_intact(job: Job, part: FinishedPart) -> bool:
    """Read the whole part; return whether its checksums, schema and counts are as expected."""
    size = batch_rows(job.mapper.model().spec.image)
    rows = errors = 0
    try:
        with open_parquet(part.file) as opened:
            if not opened.schema_arrow.equals(_stored_schema(job.schema)):
                return False
        for batch in read_batches(part.file, size):
            rows += batch.num_rows
            errors += batch.num_rows - batch.column(ERROR).null_count
    except InputError:
        return False
    return (rows, errors) == (part.rows, part.errors)


def _stored_schema(schema: Any) -> Any:
    """Return the schema that is read back from a file that was written with `schema`."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))


def _first_error(file: Path) -> str:
    """Return the first reason in the column `error` of a part that has errors."""
    column = pq.read_table(file, columns=[ERROR])[ERROR]
    reason: str = column.drop_null()[0].as_py()
    return reason


def _remove_temporary(out: Path) -> None:
    """Delete the temporary files of killed workers; no worker of this job may be running."""
    for path in out.glob(".part-*.part"):
        path.unlink(missing_ok=True)


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 20 else f"{text[:13]}…"
