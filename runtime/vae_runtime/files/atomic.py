"""Files read within a limit, and written so that either the old or the new one is there, whole."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import FileError, describe_os_error


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
    return FileError(f"{path}: {describe_os_error(error)}, {kept}")


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


try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LONGEST = 200  # bytes of the target's name kept in the temporary one; file systems allow 255
_OURS = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)


@contextlib.contextmanager
def temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new path beside `target` that `make` made, a file or a folder; gone at the end.

    Raises:
        OSError: it cannot be made.
    """
    _sweep(target.parent)
    path, lock = _claim(target, make)
    try:
        yield path
    finally:
        remove(path)
        if lock is not None:
            os.close(lock)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _claim(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """A path that is new and, where that works, locked."""
    kept = os.fsencode(target.name)[:_LONGEST].decode(errors="ignore")
    while True:
        path = target.with_name(f".{kept}.{os.urandom(6).hex()}.part")
        make(path)
        lock = None
        try:
            lock = _lock(path)
            # Before it was locked, another process may have taken it for a leftover.
            if fcntl is None or path.exists():
                return path, lock
        except BlockingIOError:
            continue
        except BaseException:
            remove(path)
            raise
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """The open handle whose closing ends the lock; None where there are no locks.

    Raises:
        BlockingIOError: another one has it.
    """
    if fcntl is None:
        return None
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if handle is not None:
            os.close(handle)
        if isinstance(error, BlockingIOError):
            raise
        return None
    return handle


@functools.lru_cache(maxsize=256)
def _sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder; once a process, for listing takes its time."""
    if fcntl is None:
        return
    try:
        found = [entry.path for entry in os.scandir(folder) if _OURS.fullmatch(entry.name)]
    except OSError:
        return  # making the file will fail too, and say why
    for name in found:
        with contextlib.suppress(BlockingIOError):  # its writer lives
            lock = _lock(Path(name))
            if lock is not None:
                remove(Path(name))
                os.close(lock)


_HERE = -100  # AT_FDCWD: paths are relative to the current folder
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def exchange(new: Path, old: Path) -> None:
    """Swap two paths of one file system.

    In one step on Linux and macOS, where the file system can do it. Elsewhere in three renames: a
    process that is killed between them leaves the old folder beside its place, its name ending in
    `.old`.

    Raises:
        OSError: nothing was changed.
    """
    if _at_once(new, old):
        return
    aside = old.with_name(f".{old.name}.{os.urandom(6).hex()}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def _at_once(new: Path, old: Path) -> bool:
    a, b = os.fsencode(new), os.fsencode(old)
    try:
        if sys.platform == "linux":
            failed = ctypes.CDLL(None).renameat2(_HERE, a, _HERE, b, ctypes.c_uint(_EXCHANGE))
        elif sys.platform == "darwin":
            failed = ctypes.CDLL(None).renamex_np(a, b, ctypes.c_uint(_EXCHANGE))
        else:
            return False
    except (OSError, AttributeError):  # a C library without it
        return False
    return not failed
