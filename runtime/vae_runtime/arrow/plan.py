"""From what the user named to parts: stretches of whole row groups, each one task and one file."""

from __future__ import annotations

import glob
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FileError, InputError, NotFound, UsageError

PART_ROWS = 16_384  # half a second of work or more: far above what a scheduler takes for a task


@dataclass(frozen=True)
class Piece:
    """Row groups of one Parquet file."""

    file: str
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """One task: rows `start` to `start + rows` of the job.

    Attributes:
        number: which part, from 0.
        start: the first row's number in the whole job.
        rows: how many.
        pieces: where they are; none where rows are only counted, as `sample` may.
    """

    number: int
    start: int
    rows: int
    pieces: tuple[Piece, ...] = ()

    @property
    def name(self) -> str:
        """The file that the part becomes."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True)
class Plan:
    """A job's parts, the columns of its rows, and a digest of what is read.

    Attributes:
        parts: in the order of the rows.
        schema: of the input, without its metadata; None where rows are only counted.
        digest: sha256 over the parts and over the footers of all files.
    """

    parts: tuple[Part, ...]
    schema: Any
    digest: str

    @property
    def rows(self) -> int:
        """How many rows there are in all."""
        return sum(part.rows for part in self.parts)


def plan_rows(rows: int, part_rows: int = PART_ROWS) -> Plan:
    """Parts of a job that reads nothing: rows 0 to `rows`."""
    starts = range(0, rows, part_rows)
    parts = tuple(Part(k, start, min(part_rows, rows - start)) for k, start in enumerate(starts))
    return Plan(parts, None, _digest(parts, []))


def plan_files(source: str, part_rows: int = PART_ROWS, limit: int | None = None) -> Plan:
    """Parts of Parquet files; only their footers are read.

    Args:
        source: a file, a folder (searched to its bottom for `.parquet`), or a glob.
        part_rows: rows in a part, or more: row groups are never cut, small files share a part.
        limit: stop after this many rows; the last part is cut.

    Raises:
        NotFound: no such file.
        InputError: not Parquet, no rows, or files with different columns.
    """
    footers = [_footer(file) for file in files_of(source)]
    for footer in footers:
        if not footer.schema.equals(footers[0].schema):
            raise InputError(f"{footer.file}: its columns differ from those of {footers[0].file}")
    parts = tuple(_parts(footers, part_rows, limit))
    if not parts:
        raise InputError(f"{source}: no rows")
    return Plan(parts, footers[0].schema, _digest(parts, [footer.sha256 for footer in footers]))


def files_of(source: str) -> list[str]:
    """The Parquet files that a path, a folder or a glob names, as absolute paths in order.

    Names that begin with a dot or an underscore are left out, as other engines do.
    """
    path = Path(source)
    if path.is_dir():
        found: Iterator[Path] = (
            file
            for file in path.rglob("*.parquet")
            if not any(part[0] in "._" for part in file.relative_to(path).parts)
        )
    elif path.is_file():
        found = iter([path])
    else:
        found = (Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())  # noqa: PTH207 - a pattern may be absolute
    files = sorted(str(file.resolve()) for file in found)
    if not files:
        raise NotFound(f"{source}: no Parquet file. Expected a file, a folder or a glob")
    return files


def open_parquet(file: str) -> Any:
    """A `pyarrow.parquet.ParquetFile` that streams: a row group of any size in little memory.

    Raises:
        FileError: it cannot be read.
        InputError: it is not Parquet.
    """
    try:
        # Without a buffer size a whole column chunk is read at once.
        return pq.ParquetFile(
            file, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{file}: not a readable Parquet file") from error
    except OSError as error:
        raise FileError(f"{file}: {(error.strerror or str(error)).lower()}") from error


@dataclass(frozen=True)
class _Footer:
    """A file's columns, the rows of its row groups, and a digest of all that its footer says."""

    file: str
    schema: Any
    groups: tuple[int, ...]
    sha256: str


def _footer(file: str) -> _Footer:
    with open_parquet(file) as opened:
        found = opened.metadata
        groups = tuple(found.row_group(k).num_rows for k in range(found.num_row_groups))
        # Sizes, offsets and statistics of every column: other rows are all but sure to show.
        seen = hashlib.sha256(repr(found.to_dict()).encode()).hexdigest()
        return _Footer(file, opened.schema_arrow.remove_metadata(), groups, seen)


def _parts(footers: list[_Footer], part_rows: int, limit: int | None) -> Iterator[Part]:
    end = sum(sum(footer.groups) for footer in footers)
    end = end if limit is None else min(end, limit)
    number = start = stop = 0
    held: list[tuple[str, int]] = []
    for footer in footers:
        for group, rows in enumerate(footer.groups):
            if not rows or stop >= end:
                continue
            held.append((footer.file, group))
            stop += rows
            if stop - start >= part_rows or stop >= end:
                yield Part(number, start, min(stop, end) - start, _pieces(held))
                number, start, held = number + 1, stop, []


def _pieces(groups: list[tuple[str, int]]) -> tuple[Piece, ...]:
    by_file = itertools.groupby(groups, key=lambda one: one[0])
    return tuple(Piece(file, tuple(group for _, group in found)) for file, found in by_file)


def _digest(parts: tuple[Part, ...], footers: list[str]) -> str:
    return hashlib.sha256(repr(([asdict(part) for part in parts], footers)).encode()).hexdigest()


def parse_source(source: str, verb: str, part_rows: int, limit: int | None) -> Plan:
    """The plan for IN: Parquet, or for `sample` a number of rows.

    Raises:
        UsageError: a number for another verb, or none above 0.
    """
    if not (source.isascii() and source.isdigit()) or Path(source).exists():
        return plan_files(source, part_rows, limit)
    if verb != "sample" or not 1 <= int(source[:20]) < 2**63:
        raise UsageError(f"{source}: a number of rows is for `sample` alone, and at least 1")
    return plan_rows(min(int(source), limit or int(source)), part_rows)
