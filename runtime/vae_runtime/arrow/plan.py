"""Plan a job: divide its input into parts of whole row groups; each part is one task and file."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from .parquet_files import find_parquet, open_parquet

PART_ROWS = 16_384  # at least half a second of work, far above a scheduler's cost per task


@dataclass(frozen=True)
class RowGroups:
    """Some row groups of one Parquet file, by index."""

    file: str
    groups: tuple[int, ...]


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
        schema: the input's schema, without metadata; None if there are no input files.
        sha256: checksum of the parts and of the footers of all input files.
    """

    parts: tuple[Part, ...]
    schema: Any
    sha256: str

    @property
    def rows(self) -> int:
        """The number of rows in all parts."""
        return sum(part.rows for part in self.parts)


def parse_source(source: str, verb: str, part_rows: int, limit: int | None) -> Plan:
    """Plan a job for the argument IN: Parquet files, or (for `sample` only) a number of rows.

    Raises:
        UsageError: a number of rows is given for another verb, or is out of range.
    """
    if not (source.isascii() and source.isdigit()) or Path(source).exists():
        return plan_files(source, part_rows, limit)
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
    return Plan(parts, None, _checksum(parts, []))


def plan_files(source: str, part_rows: int = PART_ROWS, limit: int | None = None) -> Plan:
    """Plan a job over Parquet files; only their footers are read.

    Args:
        source: a file, a folder (searched recursively for `.parquet`), or a glob.
        part_rows: minimum rows per part; row groups are never split, and small files share a part.
        limit: maximum number of rows; the last part ends there.

    Raises:
        NotFound: no file was found.
        InputError: not Parquet, no rows, or the files' columns differ.
    """
    footers = [_read_footer(file) for file in find_parquet(source)]
    first = footers[0]
    for footer in footers:
        if not footer.schema.equals(first.schema):
            raise InputError(f"{footer.file}: its columns differ from those of {first.file}")
    parts = tuple(_divide(footers, part_rows, limit))
    if not parts:
        raise InputError(f"{source}: no rows")
    return Plan(parts, first.schema, _checksum(parts, [footer.sha256 for footer in footers]))


@dataclass(frozen=True)
class _Footer:
    """A file's schema, the number of rows in each row group, and a checksum of its footer."""

    file: str
    schema: Any
    groups: tuple[int, ...]
    sha256: str


def _read_footer(file: str) -> _Footer:
    with open_parquet(file) as opened:
        footer = opened.metadata
        groups = tuple(footer.row_group(k).num_rows for k in range(footer.num_row_groups))
        # The footer holds sizes, offsets and statistics of all columns, so different rows almost
        # certainly change its checksum.
        sha256 = hashlib.sha256(repr(footer.to_dict()).encode()).hexdigest()
        return _Footer(file, opened.schema_arrow.remove_metadata(), groups, sha256)


def _divide(footers: list[_Footer], part_rows: int, limit: int | None) -> Iterator[Part]:
    end = sum(sum(footer.groups) for footer in footers)
    end = end if limit is None else min(end, limit)
    number = start = stop = 0
    pending: list[tuple[str, int]] = []
    for footer in footers:
        for group, rows in enumerate(footer.groups):
            if not rows or stop >= end:
                continue
            pending.append((footer.file, group))
            stop += rows
            if stop - start >= part_rows or stop >= end:
                by_file = itertools.groupby(pending, key=lambda pair: pair[0])
                sources = (RowGroups(file, tuple(k for _, k in pairs)) for file, pairs in by_file)
                yield Part(number, start, min(stop, end) - start, tuple(sources))
                number, start, pending = number + 1, stop, []


def _checksum(parts: tuple[Part, ...], footers: list[str]) -> str:
    return hashlib.sha256(repr(([asdict(part) for part in parts], footers)).encode()).hexdigest()
