"""Plan a job: divide its input into parts of whole row groups; each part is one task and file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from ..errors import InputError, UsageError, VaeError
from .storage import explain, find_parquet, join, locate

PART_ROWS = 16_384  # at least half a second of work, far above a scheduler's cost per task
_FOOTERS_AT_ONCE = 16  # read concurrently, because each takes a few round trips to an object store


@dataclass(frozen=True)
class RowGroups:
    """Some row groups of one Parquet file.

    Attributes:
        file: the file, relative to the plan's place.
        groups: indices of the row groups.
        rows: number of rows in these row groups.
        keys: the file's values of the partition columns, as in `label=3/`.
    """

    file: str
    groups: tuple[int, ...]
    rows: int
    keys: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Part:
    """One task: rows `start` to `start + rows - 1` of the job.

    Attributes:
        number: position in the job, from 0.
        start: number of the part's first row within the whole job.
        rows: number of rows.
        sources: the row groups to read; empty if `sample` has no input files.
    """

    number: int
    start: int
    rows: int
    sources: tuple[RowGroups, ...] = ()

    @property
    def name(self) -> str:
        """The part's file name."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Plan:
    """The parts of a job.

    Attributes:
        parts: the parts in row order.
        schema: the columns of all input files and their partitions, without metadata.
        sha256: checksum of the parts and of the footers of all input files; it does not depend on
            where the files are.
        place: where the input files are.
        unreadable: files that were skipped because they are not readable Parquet files.
    """

    parts: tuple[Part, ...]
    schema: Any
    sha256: str
    place: str = ""
    unreadable: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """The number of rows in all parts."""
        return sum(part.rows for part in self.parts)


def parse_source(
    source: str, verb: str, part_rows: int, limit: int | None, *, skip_unreadable: bool = False
) -> Plan:
    """Plan a job for the argument IN: Parquet files, or (for `sample` only) a number of rows.

    Raises:
        UsageError: a number of rows is given for another verb, or is out of range.
    """
    if not (source.isascii() and source.isdigit()) or Path(source).exists():
        return plan_files(source, part_rows, limit, skip_unreadable=skip_unreadable)
    if verb != "sample":
        raise UsageError(
            f"{source}: a number of rows, which only sample accepts. "
            "Name a Parquet file, a folder or a glob."
        )
    if not 1 <= int(source[:20]) < 2**63:
        raise UsageError(f"{source}: number of rows, expected 1 to 2**63 - 1")
    return plan_rows(min(int(source), limit or int(source)), part_rows)


def plan_rows(rows: int, part_rows: int = PART_ROWS) -> Plan:
    """Plan a job that has no input files; its rows are numbered 0 to `rows - 1`."""
    starts = range(0, rows, part_rows)
    parts = tuple(Part(k, start, min(part_rows, rows - start)) for k, start in enumerate(starts))
    return Plan(parts, pa.schema([]), _checksum(parts))


def plan_files(
    source: str,
    part_rows: int = PART_ROWS,
    limit: int | None = None,
    *,
    skip_unreadable: bool = False,
) -> Plan:
    """Plan a job over Parquet files; only their footers are read.

    Args:
        source: a file, a folder (searched recursively for `.parquet`), a glob, or a URL of these.
        part_rows: minimum rows per part; row groups are never split, and small files share a part.
        limit: maximum number of rows; the last part ends there.
        skip_unreadable: leave out files that are not readable, instead of raising an error.

    Raises:
        NotFound: no file was found.
        InputError: not Parquet, no rows, a table format, or columns with types that do not agree.
    """
    place, files = find_parquet(source)
    fragments, partitions = _open_dataset(place, files)
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        found = list(pool.map(_read_footer, [place] * len(files), files, fragments))
    unreadable = [footer for footer in found if isinstance(footer, VaeError)]
    footers = [footer for footer in found if isinstance(footer, _Footer)]
    if unreadable and not (skip_unreadable and footers):
        raise unreadable[0]
    schema = _unify(place, footers, partitions)
    parts = tuple(_divide(footers, part_rows, limit))
    if not parts:
        raise InputError(f"{source}: no rows")
    skipped = tuple(str(error).partition(": ")[0] for error in unreadable)
    return Plan(parts, schema, _checksum(parts, footers), place, skipped)


@dataclass(frozen=True)
class _Footer:
    """A file's schema, partition keys, rows in each row group, and a checksum of its footer."""

    file: str
    schema: Any
    keys: tuple[tuple[str, Any], ...]
    groups: tuple[int, ...]
    sha256: str


def _open_dataset(place: str, files: list[str]) -> tuple[list[Any], Any]:
    """Return a `pyarrow.dataset` fragment for each file, and the schema of their partitions."""
    filesystem, root = locate(place)
    options = ds.FileSystemFactoryOptions(
        partition_base_dir=root, partitioning=ds.HivePartitioning.discover()
    )
    factory = ds.FileSystemDatasetFactory(
        filesystem, [f"{root}/{file}" for file in files], ds.ParquetFileFormat(), options
    )
    partitions = factory.inspect(fragments=0)
    return list(factory.finish(partitions).get_fragments()), partitions


def _read_footer(place: str, file: str, fragment: Any) -> _Footer | VaeError:
    """Read a file's footer, or return the error."""
    name = join(place, file)
    try:
        footer, schema = fragment.metadata, fragment.physical_schema.remove_metadata()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return explain(error, f"{name}: not a readable Parquet file", name)
    if len(set(schema.names)) != len(schema.names):
        return InputError(f"{name}: two columns of one name, among {', '.join(schema.names)}")
    # The footer holds sizes, offsets and statistics of all columns, so different rows almost
    # certainly change its checksum.
    sha256 = hashlib.sha256(repr(footer.to_dict()).encode()).hexdigest()
    groups = tuple(footer.row_group(k).num_rows for k in range(footer.num_row_groups))
    keys = tuple(ds.get_partition_keys(fragment.partition_expression).items())
    return _Footer(file, schema, keys, groups, sha256)


def _unify(place: str, footers: list[_Footer], partitions: Any) -> Any:
    """Merge the schemas: a column may be missing in some files, or have a narrower type."""
    first, schema = footers[0], footers[0].schema
    for footer in footers:
        if not footer.schema.equals(schema):
            try:
                schema = pa.unify_schemas([schema, footer.schema], promote_options="permissive")
            except pa.ArrowException as error:
                raise InputError(
                    f"{join(place, footer.file)}: its columns differ from those of "
                    f"{join(place, first.file)}: {error}"
                ) from error
    new = [field for field in partitions if field.name not in schema.names]
    return pa.schema([*schema, *new])


def _divide(footers: list[_Footer], part_rows: int, limit: int | None) -> Iterator[Part]:
    end = sum(sum(footer.groups) for footer in footers)
    end = end if limit is None else min(end, limit)
    number = start = stop = 0
    pending: list[tuple[_Footer, int]] = []
    for footer in footers:
        for group, rows in enumerate(footer.groups):
            if not rows or stop >= end:
                continue
            pending.append((footer, group))
            stop += rows
            if stop - start >= part_rows or stop >= end:
                by_file = groupby(pending, key=lambda pair: pair[0])
                sources = (_row_groups(found, [k for _, k in pairs]) for found, pairs in by_file)
                yield Part(number, start, min(stop, end) - start, tuple(sources))
                number, start, pending = number + 1, stop, []


def _row_groups(footer: _Footer, groups: list[int]) -> RowGroups:
    rows = sum(footer.groups[k] for k in groups)
    return RowGroups(footer.file, tuple(groups), rows, footer.keys)


def _checksum(parts: tuple[Part, ...], footers: list[_Footer] | None = None) -> str:
    planned = [asdict(part) for part in parts], [footer.sha256 for footer in footers or ()]
    return hashlib.sha256(repr(planned).encode()).hexdigest()
