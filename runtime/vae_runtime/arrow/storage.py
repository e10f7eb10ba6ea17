"""Find, read and write Parquet files in local folders, object stores and other file systems.

A place is an absolute path or a URL such as `s3://bucket/images`, and a file is a path relative to
it. Every process opens the file system of a place itself, so credentials stay in its environment.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from ..errors import FileError, InputError, NotFound, UsageError, describe_os_error
from ..files.atomic import writing

# Here a file appears when it is complete, and renaming would copy it.
_OBJECT_STORES = ("s3", "gs", "gcs", "abfs", "abfss", "hf", "memory")

_TABLES = {
    "_delta_log": 'a Delta Lake table. Read it with deltalake: rows = DeltaTable("{}")'
    '.to_pyarrow_table(); Mapper("encode", BUNDLE)(rows)',
    "metadata": 'an Iceberg table. Read it with pyiceberg: rows = StaticTable.from_metadata("{}/'
    'metadata/NAME.metadata.json").scan().to_arrow(); Mapper("encode", BUNDLE)(rows)',
    ".hoodie": 'a Hudi table at "{}". Read it with Spark',
}


def absolute(place: str | Path) -> str:
    """Make a path absolute; a `file://` URL becomes a path, and other URLs are kept."""
    text = str(place)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return str(Path(text).resolve())
    if scheme.lower() == "file":
        return str(Path(locate(f"file://{rest}")[1]).resolve())
    return f"{scheme.lower()}://{rest}".rstrip("/")


def is_local(place: str) -> bool:
    """Return whether an absolute place is a path of this machine."""
    return "://" not in place


def join(place: str, file: str) -> str:
    """Return the path or URL of a file, as shown in messages."""
    head = place if is_local(place) else place.partition("?")[0]
    return f"{head.rstrip('/')}/{file}"


@lru_cache
def locate(place: str) -> tuple[Any, str]:
    """Return the `pyarrow.fs.FileSystem` of an absolute place, and its path there.

    Raises:
        UsageError: neither Arrow nor fsspec knows the scheme.
        FileError: the storage does not answer.
    """
    if is_local(place):
        return pafs.LocalFileSystem(), place
    with file_errors(place):
        with contextlib.suppress(pa.ArrowInvalid):  # a scheme that Arrow does not know
            filesystem, path = pafs.FileSystem.from_uri(place)
            return filesystem, path
        try:
            from fsspec.core import url_to_fs

            filesystem, path = url_to_fs(place)
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"{place}: {error}. Use a path, or s3:// gs:// abfs:// hf://"
            ) from error
        return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


@contextlib.contextmanager
def file_errors(name: str) -> Iterator[None]:
    """Convert the errors of file systems to `FileError`s about `name`."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{name}: not found") from error
    except (FileError, UsageError):
        raise
    except (OSError, pa.ArrowException) as error:
        what = describe_os_error(error) if isinstance(error, OSError) else error
        raise FileError(f"{name}: {what}") from error


# Finding files


def find_parquet(source: str) -> tuple[str, list[str]]:
    """Return a place, and the sorted Parquet files there that a path, folder, glob or URL names.

    In a folder, names that begin with a dot or an underscore are skipped, as other engines do.

    Raises:
        NotFound: no file was found.
        InputError: the files belong to a table format, which knows which of their rows are deleted.
    """
    place, pattern = _split_pattern(source)
    filesystem, root = locate(place)
    with file_errors(source):
        if pattern:
            from fsspec.implementations.arrow import ArrowFSWrapper

            found: Any = ArrowFSWrapper(filesystem).glob(f"{root}/{pattern}")
            folders = {folder for name in found for folder in _parents(name)}
        elif filesystem.get_file_info(root).is_file:
            found, folders = [root], {*_parents(root)}
            place, root = split_file(place)[0], root.rpartition("/")[0]
        else:
            infos = filesystem.get_file_info(pafs.FileSelector(root, True, True))
            marks = {info.path for info in infos if info.base_name in _TABLES}
            folders = {root, *_parents(root), *(mark.rpartition("/")[0] for mark in marks)}
            found = [info.path for info in infos if info.is_file and _is_data(info.path, root)]
        _refuse_tables(filesystem, folders)
    files = sorted(name.removeprefix(root).lstrip("/") for name in found)
    if not files:
        raise NotFound(f"{source}: no Parquet file, expected a file, a folder or a glob")
    return place, files


def _split_pattern(source: str) -> tuple[str, str]:
    """Divide a glob into an absolute place without wildcards and a pattern; others have none."""
    head, query = _split_query(source)
    match = re.fullmatch(r"([^*?[]*/)?([^/]*[*?[].*)", head, re.DOTALL)
    if match is None or ("://" not in source and Path(source).exists()):
        return absolute(source), ""
    return absolute((match[1] or "./") + query), match[2]


def _split_query(place: str) -> tuple[str, str]:
    """Divide a URL before its options; paths have none."""
    head, mark, query = place.partition("?") if "://" in place else (place, "", "")
    return head, mark + query


def split_file(place: str) -> tuple[str, str]:
    """Divide the place of a file into that of its folder, and its name.

    Raises:
        UsageError: a URL names no file in a bucket.
    """
    head, query = _split_query(place)
    folder, _, name = head.rpartition("/")
    if folder.endswith(":/"):
        raise UsageError(f"{place}: a bucket or a host, expected a folder and a file in it")
    return (folder or "/") + query, name


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _is_data(path: str, root: str) -> bool:
    parts = path.removeprefix(root).lstrip("/").split("/")
    return parts[-1].endswith(".parquet") and not any(part[0] in "._" for part in parts)


def _refuse_tables(filesystem: Any, folders: Iterable[str]) -> None:
    """Refuse tables whose Parquet files also hold rows that were deleted or replaced."""
    with contextlib.suppress(OSError):  # the parents may be unreadable
        for info in filesystem.get_file_info([f"{f}/{mark}" for f in folders for mark in _TABLES]):
            folder, _, mark = info.path.rpartition("/")
            if info.type == pafs.FileType.NotFound or (
                mark == "metadata" and not _names(filesystem, info.path, ".metadata.json")
            ):
                continue
            raise InputError(f"{folder}: {_TABLES[mark].format(folder)}")


def _names(filesystem: Any, folder: str, end: str) -> list[str]:
    infos = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
    return [info.base_name for info in infos if info.base_name.endswith(end)]


# Reading


def open_parquet(place: str, file: str) -> Any:
    """Open a file as a `pyarrow.parquet.ParquetFile` that streams and verifies page checksums.

    Raises:
        FileError: the file cannot be read.
        InputError: the file is not Parquet.
    """
    filesystem, root = locate(place)
    try:
        # Without a buffer size, pyarrow reads whole column chunks at once.
        return pq.ParquetFile(
            f"{root}/{file}", filesystem=filesystem, buffer_size=1 << 20, pre_buffer=False,
            page_checksum_verification=True,
        )  # fmt: skip
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        name = join(place, file)
        raise explain(error, f"{name}: not a readable Parquet file", name) from error


def explain(error: Exception, damaged: str, name: str) -> FileError | InputError:
    """Distinguish a system failure from a damaged file; Arrow may report both as an OSError."""
    if isinstance(error, FileNotFoundError):
        return NotFound(f"{name}: not found")
    if isinstance(error, OSError) and (error.errno is not None or "AWS Error" in str(error)):
        return FileError(f"{name}: {describe_os_error(error)}")
    return InputError(damaged)


# Writing


@contextlib.contextmanager
def writing_file(place: str, file: str) -> Iterator[Path]:
    """Yield a temporary path; when the block ends, its contents become `file`, whole or not at all.

    On this machine the temporary file is renamed. It is beside the folder, if possible, because
    polars reads all files in a folder. Elsewhere the file is uploaded: to an object store in one
    request, to another file system under a name that begins with a dot.

    Raises:
        FileError: the file cannot be written; a previous file is kept.
    """
    if is_local(place):
        with writing(Path(place, file), _beside(place) / f"{Path(place).name}.{file}") as path:
            yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        yield path
        filesystem, root = locate(place)
        target = f"{root}/{file}"
        first = target if is_object_store(place) else f"{root}/.{file}.part"
        with file_errors(join(place, file)), pa.memory_map(str(path)) as contents:
            with filesystem.open_output_stream(first) as sink:
                # One call: an interruption between two would end in a truncated object.
                sink.write(contents.read_buffer())
            if first != target:
                filesystem.move(first, target)


def list_files(place: str) -> dict[str, int]:
    """Create a folder if it is missing; return its visible names, sorted, each with its size.

    Raises:
        FileError: the folder cannot be created or read.
    """
    filesystem, root = locate(place)
    with file_errors(place):
        if not is_object_store(place):
            filesystem.create_dir(root, recursive=True)
        infos = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True))
    found = sorted((info.base_name, info.size or 0) for info in infos)
    return {name: size for name, size in found if name[0] not in "._"}


def remove_temporary(place: str) -> None:
    """Delete the temporary files of killed workers; no worker of this job may be running."""
    filesystem, root = locate(place)
    folder, start = (_beside(place), f".{Path(place).name}.") if is_local(place) else (root, ".")
    with file_errors(place):
        for name in _names(filesystem, str(folder), ".part"):
            if name.startswith(start):
                filesystem.delete_file(f"{folder}/{name}")


def _beside(place: str) -> Path:
    """Return the folder around a folder, or the folder itself where files cannot be moved in."""
    folder, parent = Path(place), Path(place).parent
    movable = folder.stat().st_dev == parent.stat().st_dev and os.access(parent, os.W_OK)
    return parent if movable else folder


def is_object_store(place: str) -> bool:
    """Return whether files appear in a place only when they are complete."""
    return place.partition("://")[0] in _OBJECT_STORES
