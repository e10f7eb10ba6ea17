"""Find Parquet files and read them in batches; any damage raises an error naming the file."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FileError, InputError, NotFound, describe_os_error


def find_parquet(source: str) -> list[str]:
    """Return the Parquet files that a path, folder or glob matches, as sorted absolute paths.

    In a folder, names that begin with a dot or an underscore are skipped, as other engines do.

    Raises:
        NotFound: no file was found.
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
        raise NotFound(f"{source}: no Parquet file, expected a file, a folder or a glob")
    return files


def open_parquet(file: str | Path) -> Any:
    """Open a file as a `pyarrow.parquet.ParquetFile` that streams and verifies page checksums.

    Raises:
        FileError: the file cannot be read.
        InputError: the file is not Parquet.
    """
    try:
        # Without a buffer size, pyarrow reads whole column chunks at once.
        return pq.ParquetFile(
            file, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _explain(error, f"{file}: not a readable Parquet file", file) from error


def read_batches(
    file: str | Path, size: int, groups: tuple[int, ...] | None = None
) -> Iterator[Any]:
    """Read record batches of at most `size` rows from the row groups `groups`; None means all.

    Raises:
        FileError: the file cannot be read.
        InputError: the file is damaged.
    """
    with open_parquet(file) as opened:
        try:
            yield from opened.iter_batches(
                size, row_groups=None if groups is None else list(groups)
            )
        except (pa.ArrowException, OSError) as error:
            raise _explain(error, f"{file}: damaged: {error}", file) from error


def _explain(error: Exception, damaged: str, file: str | Path) -> FileError | InputError:
    """Distinguish a system failure from a damaged file; Arrow may report both as an OSError."""
    if isinstance(error, OSError) and error.errno is not None:
        return FileError(f"{file}: {describe_os_error(error)}")
    return InputError(damaged)
