"""Read the rows of a part as tables of a few megabytes, for one call of the model each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .mapper import DAMAGED
from .plan import Part, RowGroups
from .storage import explain, join, open_parquet

_PIXEL_BYTES = 8 << 20  # per call of the model, as float32
MAX_ROWS = 4096  # per call of the model
_TABLE_BYTES = 4 << 20  # of all columns, read at once and per call of the model
_MAX_DICTIONARY = 1 << 20  # bytes; the usual limit, and thus the largest value in a dictionary
_MIN_ROWS = 64  # per read, in columns whose values may be that large


def rows_per_call(shape: tuple[int, int, int]) -> int:
    """Return how many images (C, H, W) to map together, so that they take a few megabytes."""
    c, h, w = shape
    return max(1, min(MAX_ROWS, _PIXEL_BYTES // (4 * c * h * w)))


def read_part(
    part: Part, place: str, schema: Any, row: str, rows: int, damaged: list[str] | None = None
) -> Iterator[Any]:
    """Read the part's rows as tables.

    Args:
        part: the rows to read.
        place: where the input files are.
        schema: the columns to read.
        row: the column of row numbers; added if `schema` lacks it.
        rows: number of rows per table; those of many small files share one.
        damaged: receives the names of damaged files, whose rows are null; None raises their errors.

    Raises:
        InputError: a file is damaged.
    """
    start, end = part.start, part.start + part.rows
    if not part.sources:
        for first in range(start, end, rows):
            yield pa.table({row: np.arange(first, min(first + rows, end))})
    tables = (
        table
        for source in part.sources
        for table in read_source(source, place, schema, rows, damaged)
    )
    for read in gather(tables, _TABLE_BYTES, rows):
        table = read.slice(0, end - start)  # a limit may cut it
        if row not in table.column_names:
            numbers = pa.array(np.arange(start, start + table.num_rows), pa.int64())
            table = table.append_column(row, numbers)
        yield table
        start += table.num_rows
        if start == end:
            return


def read_source(
    source: RowGroups, place: str, schema: Any, rows: int, damaged: list[str] | None = None
) -> Iterator[Any]:
    """Read row groups of one file as tables with the columns of `schema`; see `read_part`."""
    keys = dict(source.keys)
    names = [name for name in schema.names if name not in keys]
    left = source.rows
    try:
        for batch in read_batches(
            place, source.file, rows=rows, groups=source.groups, columns=names
        ):
            yield _conform(batch, schema, keys)
            left -= batch.num_rows
    except InputError as error:
        if damaged is None:
            raise
        damaged.append(join(place, source.file))
        while left > 0:
            n = min(rows, left)
            nulls = pa.Table.from_arrays(
                [pa.nulls(n, field.type) for field in schema], schema=schema
            )
            yield nulls.replace_schema_metadata({DAMAGED: str(error)})
            left -= n


def read_batches(
    place: str,
    file: str,
    *,
    rows: int,
    groups: Iterable[int] | None = None,
    columns: list[str] | None = None,
) -> Iterator[Any]:
    """Read record batches of at most `rows` rows and a few megabytes, whatever a row weighs.

    Args:
        place: where the file is.
        file: the file.
        rows: maximum number of rows per batch.
        groups: indices of the row groups to read; None means all.
        columns: names of the columns to read; None means all.

    Raises:
        FileError: the file cannot be read.
        InputError: the file is damaged.
    """
    with open_parquet(place, file) as opened:
        footer = opened.metadata
        chosen = list(range(footer.num_row_groups) if groups is None else groups)
        size = min([rows, *(_rows_per_read(footer.row_group(k), columns) for k in chosen)])
        try:
            # A scanner of pyarrow.dataset would hold a whole row group, however large.
            yield from opened.iter_batches(size, row_groups=chosen, columns=columns)
        except (pa.ArrowException, OSError) as error:
            name = join(place, file)
            raise explain(error, f"{name}: damaged: {error}", name) from error


def _rows_per_read(group: Any, columns: list[str] | None) -> int:
    """Estimate how many rows of a row group take `_TABLE_BYTES` in memory."""
    size = largest = 1
    for k in range(group.num_columns):
        column = group.column(k)
        if columns is not None and column.path_in_schema.split(".")[0] not in columns:
            continue
        size += max(column.total_uncompressed_size, 4 * column.num_values)
        if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
            # Each row may repeat the largest value, which the file stores only once.
            largest += min(column.total_uncompressed_size, _MAX_DICTIONARY)
    average = _TABLE_BYTES * group.num_rows // size
    rows: int = max(1, min(average, max(_MIN_ROWS, _TABLE_BYTES // largest)))
    return rows


def _conform(batch: Any, schema: Any, keys: dict[str, Any]) -> Any:
    """Convert a batch to a table with the columns of `schema`; missing ones are null."""
    columns = []
    for field in schema:
        if field.name in keys:
            column = pa.repeat(pa.scalar(keys[field.name], field.type), batch.num_rows)
        elif field.name in batch.schema.names:
            column = batch.column(field.name)
            column = column if column.type == field.type else column.cast(field.type)
        else:
            column = pa.nulls(batch.num_rows, field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def gather(tables: Iterable[Any], max_bytes: int, max_rows: float = float("inf")) -> Iterator[Any]:
    """Concatenate tables until they have a number of bytes or of rows."""
    pending: list[Any] = []
    size = rows = 0
    for table in tables:
        if pending and table.schema.metadata != pending[0].schema.metadata:
            yield pa.concat_tables(pending)  # rows of a damaged file stay apart
            pending, size, rows = [], 0, 0
        pending.append(table)
        size, rows = size + table.nbytes, rows + table.num_rows
        if size >= max_bytes or rows >= max_rows:
            yield pa.concat_tables(pending)
            pending, size, rows = [], 0, 0
    if pending:
        yield pa.concat_tables(pending)
