"""One part: its rows stream through the mapper into one file, in constant memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FileError, InputError
from ..files.atomic import writing
from .mapper import ERROR, Mapper
from .plan import Part, Piece, open_parquet

if TYPE_CHECKING:
    from ..bundle.spec import ImageSpec

_CHUNK_BYTES = 8 << 20  # float pixels in a chunk
_GROUP_BYTES = 16 << 20  # of a row group that is written
_MAX_ROWS = 4096

# How chunks are mapped: the builtin `map`, or one that keeps several in flight, in order.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Done:
    """A finished part.

    Attributes:
        file: its name in the output folder.
        rows: how many.
        errors: how many of them have a reason in `error`.
        bytes: of the file.
        sha256: of the file.
    """

    file: str
    rows: int
    errors: int
    bytes: int
    sha256: str


def run_part(
    mapper: Mapper,
    out: str,
    part: Part,
    over: Map = map,
    advance: Callable[[int], object] | None = None,
) -> Done:
    """Work on one part and write its file, under a temporary name until it is whole.

    Args:
        mapper: what to do.
        out: the output folder.
        part: which rows.
        over: how chunks are mapped.
        advance: is told how many rows were done.

    Raises:
        FileError: a file could not be read or written.
        InputError: a damaged input file.
    """
    target = Path(out) / part.name
    rows = errors = 0
    chunks = _chunks(part, mapper)
    with writing(target) as temporary, _Writer(temporary) as writer:
        for table in over(mapper, chunks):
            writer.write(table)
            rows += table.num_rows
            errors += table.num_rows - table.column(ERROR).null_count
            if advance is not None:
                advance(table.num_rows)
    if rows != part.rows:
        raise InputError(f"{part.name}: {rows} rows read, {part.rows} planned: the input changed")
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Done(part.name, rows, errors, target.stat().st_size, digest)


def first_reason(file: Path) -> str:
    """The first reason in the column `error` of a part that has one."""
    column = pq.read_table(file, columns=[ERROR])[ERROR]
    reason: str = column.drop_null()[0].as_py()
    return reason


def chunk_rows(spec: ImageSpec) -> int:
    """Rows worked on at a time: some megabytes of pixels."""
    c, h, w = spec.shape
    return max(1, min(_MAX_ROWS, _CHUNK_BYTES // (4 * c * h * w)))


def numbered(schema: Any, mapper: Mapper) -> Any:
    """The columns that the mapper gets: those of the input and the row numbers."""
    name = mapper.options.row
    return schema if name in schema.names else schema.append(pa.field(name, pa.int64()))


def _chunks(part: Part, mapper: Mapper) -> Iterator[Any]:
    """The part's rows as tables, each with the column of row numbers."""
    size = chunk_rows(mapper.model().spec.image)
    start, end = part.start, part.start + part.rows
    for table in _read(part, size):
        cut = table.slice(0, end - start)  # the last part of a limited job
        if mapper.options.row not in cut.column_names:
            index = pa.array(np.arange(start, start + cut.num_rows), pa.int64())
            cut = cut.append_column(mapper.options.row, index)
        yield cut
        start += cut.num_rows
        if start == end:
            return


def _read(part: Part, size: int) -> Iterator[Any]:
    if not part.pieces:
        for start in range(0, part.rows, size):
            # A table of no columns still has a number of rows.
            rows = min(size, part.rows - start)
            yield pa.table({"": pa.nulls(rows)}).select([])
    for piece in part.pieces:
        with open_parquet(piece.file) as file:
            yield from _batches(file, piece, size)


def _batches(file: Any, piece: Piece, size: int) -> Iterator[Any]:
    try:
        for batch in file.iter_batches(size, row_groups=list(piece.groups)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is None:  # Arrow's own, not the system's
            raise InputError(f"{piece.file}: damaged: {error}") from error
        raise FileError(f"{piece.file}: {str(error).lower()}") from error


class _Writer:
    """Tables to one Parquet file, gathered into row groups of some size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[Any] = []
        self._file: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
        if self._file is not None:
            self._file.close()

    def write(self, table: Any) -> None:
        """Take one table; what is held is written when it has grown large."""
        self._held.append(table)
        if sum(held.nbytes for held in self._held) >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        table = pa.concat_tables(self._held)
        self._held = []
        if self._file is None:
            # Numbers of images and latents hardly repeat: a dictionary of them only takes time.
            plain = [f.name for f in table.schema if not pa.types.is_nested(f.type)]
            options: dict[str, Any] = {"use_dictionary": plain, "write_page_checksum": True}
            self._file = pq.ParquetWriter(self._path, table.schema, **options)
        self._file.write_table(table, row_group_size=table.num_rows)
