"""Run a job: from a plan to a folder of Parquet parts that describe themselves.

Each part holds its provenance in its Parquet metadata: which job it belongs to, and its place
there. So the folder needs no other file, any Parquet reader takes it as one data set, and an
interrupted job resumes from the parts alone.
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
from .parquet import open_parquet, read_batches
from .plan import Part, Plan

if TYPE_CHECKING:
    from ..bundle.spec import ImageSpec

METADATA_KEY = b"vae_onnx"
_FORMAT = 1
_BATCH_BYTES = 8 << 20  # pixels of one batch, as float32
_GROUP_BYTES = 16 << 20  # an output row group
_MAX_ROWS = 4096  # per batch

Advance = Callable[[int], object]  # is told how many more rows are done
# How batches are mapped: the builtin `map`, or one that runs several at once and keeps the order.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Workers:
    """Where the parts of a job run: on threads, on local processes or on a Dask cluster.

    Attributes:
        threads: threads of this process, which share the batches of one part at a time.
        processes: processes of a new Dask cluster on this machine; 0 for none.
        scheduler: address of a running Dask scheduler, whose workers must find the same paths.
    """

    threads: int = 1
    processes: int = 0
    scheduler: str | None = None


@dataclass(frozen=True)
class Summary:
    """The outcome of a job.

    Attributes:
        parts: number of files in the folder.
        rows: rows in them.
        errors: rows with a reason in `error`.
        bytes: size of all files.
        skipped: parts that an earlier run had finished.
        first_error: the first reason, if any.
    """

    parts: int
    rows: int
    errors: int
    bytes: int
    skipped: int
    first_error: str | None


@dataclass(frozen=True)
class Job:
    """What every worker needs to write any part of a job.

    Attributes:
        mapper: what to do with each row.
        out: folder of the parts, an absolute path.
        schema: of every part.
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
        """Combine a mapper, a plan and a folder.

        Raises:
            UsageError: the input lacks a column that the mapper needs.
        """
        schema = mapper.schema(_add_row_numbers(plan.schema, mapper))
        return cls(mapper, out.resolve(), schema, plan.sha256, len(plan.parts))

    def provenance(self, part: Part) -> dict[str, Any]:
        """What identifies a part: equal provenance means an equal file."""
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
    """A part that is in the folder: its file, rows, rows with a reason in `error`, and size."""

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
        plan: which rows.
        out: folder for the parts; created if missing.
        workers: where to run; by default on one thread of this process.
        resume: skip the parts that an earlier run of the same job finished.
        advance: called with the number of rows that were just finished.

    Raises:
        InputError: the folder holds something else, or parts of another job.
        VaeError: the first error that concerns more than single rows; finished parts are kept.
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
    """Write parts and yield each one when it is finished, in any order."""
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
    """Map the rows of one part into its file, in constant memory.

    The file has a temporary name, which begins with a dot, until it is whole and on the disk.

    Args:
        job: the job.
        part: which rows.
        run_map: maps the batches.
        advance: called with the number of rows that were just mapped.

    Raises:
        FileError: a file cannot be read or written.
        InputError: an input file is damaged, or has changed since it was planned.
    """
    target = job.out / part.name
    # Pixels and latents hardly repeat, so a dictionary of them would only cost time.
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
                del group  # free its memory while the next one is gathered
            footer = {**job.provenance(part), "errors": errors, "version": __version__}
            writer.add_key_value_metadata({METADATA_KEY: json.dumps(footer, ensure_ascii=False)})
        if rows != part.rows:
            raise InputError(
                f"{part.name}: {rows} rows read, expected {part.rows}: the input has changed"
            )
    return FinishedPart(target, rows, errors, target.stat().st_size)


def batch_rows(spec: ImageSpec) -> int:
    """Rows that are mapped together: some megabytes of pixels."""
    c, h, w = spec.shape
    return max(1, min(_MAX_ROWS, _BATCH_BYTES // (4 * c * h * w)))


def _add_row_numbers(schema: Any, mapper: Mapper) -> Any:
    """The schema of the tables that a mapper gets: the input's, and the row numbers."""
    schema = pa.schema([]) if schema is None else schema
    name = mapper.options.row
    return schema if name in schema.names else schema.append(pa.field(name, pa.int64()))


def _input_tables(part: Part, mapper: Mapper) -> Iterator[Any]:
    """The part's rows as tables, with the column of row numbers."""
    size = batch_rows(mapper.model().spec.image)
    name = mapper.options.row
    start, end = part.start, part.start + part.rows
    if not part.pieces:
        for first in range(start, end, size):
            yield pa.table({name: np.arange(first, min(first + size, end))})
    for piece in part.pieces:
        for batch in read_batches(piece.file, size, piece.groups):
            table = pa.Table.from_batches([batch]).slice(0, end - start)  # a limit may cut it
            if name not in table.column_names:
                numbers = pa.array(np.arange(start, start + table.num_rows), pa.int64())
                table = table.append_column(name, numbers)
            yield table
            start += table.num_rows
            if start == end:
                return


def _row_groups(tables: Iterable[Any], advance: Advance) -> Iterator[Any]:
    """Concatenate tables into row groups of a fair size."""
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
    """Create the folder; return the finished parts in it by file name.

    Raises:
        InputError: the folder is not empty and `resume` is False, or it holds something else than
            parts of this job.
        FileError: it cannot be read or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # Parquet readers skip the other names too.
        names = sorted(path.name for path in out.iterdir() if path.name[0] not in "._")
    except OSError as error:
        raise FileError(f"{out}: {describe_os_error(error)}") from error
    if names and not resume:
        raise InputError(
            f"{out}: not empty, it holds {names[0]}. Name another folder, or use --resume."
        )
    parts = {part.name: part for part in plan.parts}
    # Check every footer before the first page: refusing a folder should not take long.
    errors = {name: _check_provenance(job, parts.get(name), out / name) for name in names}
    _remove_temporary(out)
    finished = {}
    for name, count in errors.items():
        part = FinishedPart(out / name, parts[name].rows, count or 0, (out / name).stat().st_size)
        if count is not None and _is_intact(job, part):
            finished[name] = part
    return finished


def _check_provenance(job: Job, part: Part | None, file: Path) -> int | None:
    """Compare a file's provenance with this job's.

    Returns:
        The number of rows with a reason in `error`; None if the footer is damaged.

    Raises:
        InputError: the file is not a part of this job.
    """
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
                    f"{file}: from another job, its {name} is {_shorten(seen.get(name))}, "
                    f"expected {_shorten(value)}. Name another folder."
                )
    errors = found.get("errors")
    return errors if type(errors) is int else None


def _is_intact(job: Job, part: FinishedPart) -> bool:
    """Read a part whole, with its page checksums, and compare it with what its footer says."""
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
    """The schema that a file of this schema has when it is read again."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    return pq.read_schema(pa.BufferReader(sink.getvalue()))


def _first_error(file: Path) -> str:
    """The first reason in the column `error` of a part that has one."""
    column = pq.read_table(file, columns=[ERROR])[ERROR]
    reason: str = column.drop_null()[0].as_py()
    return reason


def _remove_temporary(out: Path) -> None:
    """Remove what killed workers left; a live worker of this job has none by now."""
    for path in out.glob(".part-*.part"):
        path.unlink(missing_ok=True)


def _shorten(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 20 else f"{text[:13]}…"
