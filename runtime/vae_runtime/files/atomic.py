"""Write files and folders atomically: readers see the old one or the new one, never a half.

What is being written has a temporary name beside its target. The writer holds a lock on it, so that
the next writer in that folder can remove what a dead process left and leave a living one's alone.
"""

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

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MAX_NAME = 200  # bytes of the target's name kept in the temporary one; file systems allow 255
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part", re.DOTALL)
_CURRENT_FOLDER = -100  # AT_FDCWD
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


def write_atomic(path: Path, data: bytes | memoryview) -> None:
    """Write `data` to a temporary file beside `path`, flush it to the disk, then rename it.

    Raises:
        FileError: the disk is full, or the folder is missing or not writable; a previous file is
            untouched.
    """
    with writing(path) as temporary_path:
        temporary_path.write_bytes(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; the file written there becomes `path` at the end.

    If the block raises, the temporary file is removed and a previous `path` is untouched. A link is
    followed. A device or a pipe is written to directly: renaming would put a file in its place.

    Raises:
        FileError: see `write_atomic`.
    """
    with _file_errors(path, "previous file kept"):
        target = path.resolve()
        if target.exists() and not target.is_file() and not target.is_dir():
            yield target
            return
        with temporary(target, _make_file) as temporary_path:
            yield temporary_path
            _sync(temporary_path, os.O_RDWR)
            temporary_path.replace(target)
            _sync_folder(target.parent)


@contextlib.contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; with the plain files put there it becomes `path`.

    A previous folder is swapped out in one step where the system can do that, then removed; if the
    block raises, it is untouched. The caller decides whether it may be replaced.

    Raises:
        FileError: see `write_atomic`.
    """
    with _file_errors(path, "previous folder kept"):
        target = path.resolve()
        with temporary(target, _make_folder) as temporary_path:
            yield temporary_path
            for file in temporary_path.iterdir():
                _sync(file, os.O_RDWR)
            _sync_folder(temporary_path)
            if target.exists():
                swap(temporary_path, target)
            else:
                temporary_path.rename(target)
            _sync_folder(target.parent)


@contextlib.contextmanager
def writing_many(folder: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Yield a function (name, bytes) that writes one file of `folder` atomically.

    For thousands of small files: all share one temporary folder, and only the folder is flushed to
    the disk, once, at the end. A process that dies leaves no half file; a power cut may take back
    the last seconds. The function is not thread-safe.

    Raises:
        FileError: see `write_atomic`; also raised by the function.
    """
    with (
        _file_errors(folder, "previous files kept"),
        temporary(folder / "files", _make_folder) as temporary_path,
    ):
        part, prefix = str(temporary_path / "file"), f"{folder}{os.sep}"

        def write(name: str, data: bytes) -> None:
            # Paths as text: as objects they take a tenth of the time of a whole small image.
            try:
                with open(part, "wb") as file:  # noqa: PTH123
                    file.write(data)
                os.replace(part, prefix + name)  # noqa: PTH105
            except OSError as error:
                raise _file_error(folder / name, error, "previous file kept") from error

        yield write
        _sync_folder(folder)


def append_line(path: Path, line: bytes) -> None:
    """Append a whole line or nothing; half a line that a dead process left is removed first.

    Raises:
        FileError: it cannot be written; the lines before are kept.
    """
    with _file_errors(path, "previous lines kept"), path.open("a+b", buffering=0) as file:
        size = _size_of_whole_lines(path)
        file.truncate(size)
        try:
            view = memoryview(line + b"\n")
            while view:
                view = view[file.write(view) :]
        except OSError:
            file.truncate(size)
            raise


@contextlib.contextmanager
def temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new path beside `target` that `make` created, and remove it at the end.

    Args:
        target: what it will become.
        make: creates a file or a folder at a path, and fails if there is one.

    Raises:
        OSError: it cannot be created.
    """
    _remove_abandoned(target.parent)
    path, lock = _create_locked(target, make)
    try:
        yield path
    finally:
        remove(path)
        if lock is not None:
            os.close(lock)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if there is one; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def swap(new: Path, old: Path) -> None:
    """Swap two directories of one file system.

    Atomic on Linux and macOS where the file system supports it. Elsewhere it takes three renames: a
    process that is killed between them leaves the old directory beside its place, with a name that
    ends in `.old`.

    Raises:
        OSError: nothing was changed.
    """
    if _swap_atomically(new, old):
        return
    aside = old.with_name(f".{old.name}.{os.urandom(6).hex()}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def _swap_atomically(new: Path, old: Path) -> bool:
    """Return whether the system could do it; if not, nothing was changed."""
    a, b = os.fsencode(new), os.fsencode(old)
    flags = ctypes.c_uint(_SWAP)
    try:
        if sys.platform == "linux":
            failed = ctypes.CDLL(None).renameat2(_CURRENT_FOLDER, a, _CURRENT_FOLDER, b, flags)
        elif sys.platform == "darwin":
            failed = ctypes.CDLL(None).renamex_np(a, b, flags)
        else:
            return False
    except (OSError, AttributeError):  # the C library does not have the function
        return False
    return not failed


def _create_locked(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Create a new path, locked where the system has locks; return it and the lock's handle."""
    kept = os.fsencode(target.name)[:_MAX_NAME].decode(errors="ignore")
    while True:
        path = target.with_name(f".{kept}.{os.urandom(6).hex()}.part")
        make(path)
        lock = None
        try:
            lock = _lock(path)
            # Before it was locked, another process may have taken it for abandoned.
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
    """Return a handle that holds the lock until it is closed; None where there are no locks.

    Raises:
        BlockingIOError: another process holds it.
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
def _remove_abandoned(folder: Path) -> None:
    """Remove temporary files of dead processes; once per process, for listing takes time."""
    if fcntl is None:
        return
    try:
        found = [entry.path for entry in os.scandir(folder) if _TEMPORARY.fullmatch(entry.name)]
    except OSError:
        return  # creating the file will fail too, and say why
    for name in found:
        with contextlib.suppress(BlockingIOError):  # its writer is alive
            lock = _lock(Path(name))
            if lock is not None:
                remove(Path(name))
                os.close(lock)


def _size_of_whole_lines(path: Path) -> int:
    """Return the number of bytes up to the end of the last whole line."""
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
    """Create a file with the permissions that the umask allows; fail if there is one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _make_folder(path: Path) -> None:
    path.mkdir()


def _sync_folder(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _file_errors(path: Path, kept: str) -> Iterator[None]:
    """Turn an OSError into a FileError about `path`."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise _file_error(path, error, kept) from error


def _file_error(path: Path, error: OSError, kept: str) -> FileError:
    return FileError(f"{path}: {describe_os_error(error)}, {kept}")
