"""Files read within a limit, and written so that either the old or the new one is there, whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import FileError, LimitError, NotFound
from .exchange import exchange
from .leftovers import temporary

MAX_BYTES = 2 << 30


def read_bytes(path: Path, hint: str = "", limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file.

    Args:
        path: of the file.
        hint: what to do where there is none, a sentence.
        limit: bytes that it may have.

    Raises:
        NotFound: no such file.
        FileError: it cannot be read.
        LimitError: it is larger than `limit`.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise LimitError(f"{path}: over {limit >> 20:,} MB")
            raw = file.read(size + 1)  # not `limit`: that much would be allocated
            if len(raw) > size:  # what is no plain file has no size
                raw += file.read(limit + 1 - len(raw))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file{hint and f'. {hint}'}") from error
    except OSError as error:
        raise FileError(f"{path}: {reason(error)}") from error
    if len(raw) > limit:
        raise LimitError(f"{path}: over {limit >> 20:,} MB")
    return raw


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a temporary file beside `path`, flush it to disk, then rename it.

    Raises:
        FileError: the disk is full, the folder is missing or may not be written; a previous file
            is untouched.
    """
    with writing(path) as beside:
        beside.write_bytes(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what the block wrote there becomes `path` at its end.

    If the block raises, the temporary file is removed and a previous `path` is untouched. A link is
    followed. A device or a pipe is written as it is: renaming would put a file in its place.
    """
    with _said(path, "previous file kept"):
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        with temporary(target, _make_file) as beside:
            yield beside
            _sync(beside, os.O_RDWR)
            beside.replace(target)
            _sync_folder(target.parent)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; with the plain files put there it becomes `path`.

    A previous folder is replaced in one step where the system can do that, and removed; if the
    block raises, it is untouched. Whether it may be replaced is for the caller to know.
    """
    with _said(path, "previous folder kept"):
        target = path.resolve()
        with temporary(target, _make_folder) as beside:
            yield beside
            for file in beside.iterdir():
                _sync(file, os.O_RDWR)
            _sync_folder(beside)
            if target.exists():
                exchange(beside, target)
            else:
                beside.rename(target)
            _sync_folder(target.parent)


@contextlib.contextmanager
def writing_many(folder: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function that puts a file of some name and bytes into `folder`, whole or not at all.

    For thousands of small files: one temporary folder serves all, and the disk is waited for once,
    at the end, for the names alone. A process that dies leaves no half file; a power cut may take
    back the last seconds. One file at a time.
    """
    with _said(folder, "previous files kept"), temporary(folder / "files", _make_folder) as beside:
        part, place = str(beside / "file"), f"{folder}{os.sep}"

        def put(name: str, data: bytes) -> None:
            # Paths as text: as objects they take a tenth of the time of a whole small picture.
            try:
                with open(part, "wb") as file:  # noqa: PTH123
                    file.write(data)
                os.replace(part, place + name)  # noqa: PTH105
            except OSError as error:
                raise _failed(folder / name, error, "previous file kept") from error

        yield put
        _sync_folder(folder)


def append_line(path: Path, line: bytes) -> None:
    """Add a line, whole or not at all; half a line that a dead process left goes first.

    Raises:
        FileError: it cannot be written; the lines before are kept.
    """
    with _said(path, "previous lines kept"), path.open("a+b", buffering=0) as file:
        size = _whole_lines(path)
        file.truncate(size)
        try:
            view = memoryview(line + b"\n")
            while view:
                view = view[file.write(view) :]
        except OSError:
            file.truncate(size)
            raise


def reason(error: OSError) -> str:
    """What went wrong, in lower case and few words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def _said(path: Path, kept: str) -> Iterator[None]:
    """Turn what the system raises into this project's error."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise _failed(path, error, kept) from error


def _failed(path: Path, error: OSError, kept: str) -> FileError:
    return FileError(f"{path}: {reason(error)}, {kept}")


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 65_536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _make_file(path: Path) -> None:
    """With what the umask allows; never a name that is already there."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _make_folder(path: Path) -> None:
    path.mkdir()


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # a folder cannot be opened elsewhere
        _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
