"""Atomic writes: files are complete or unchanged; permissions, links, pipes."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from vae_runtime.errors import FileError, InputError, LimitError
from vae_runtime.files import atomic as files
from vae_runtime.files.atomic import write_atomic, writing
from vae_runtime.files.reading import read_bytes

pytestmark = pytest.mark.torch_free


def test_reading_does_not_allocate_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert read_bytes(path, max_bytes=1 << 60) == b"content"  # more memory than any machine has
    assert read_bytes(path, max_bytes=7) == b"content"
    with pytest.raises(LimitError, match=r"file: over 0 MB$"):
        read_bytes(path, max_bytes=6)


@pytest.mark.skipif(not Path("/dev/zero").is_char_device(), reason="no /dev/zero")
def test_a_device_is_refused() -> None:
    for name in ("/dev/zero", "/dev/null"):
        with pytest.raises(InputError, match=f"^{name}: a device, expected a file$"):
            read_bytes(Path(name))


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for size, fits in ((1000, True), (1001, False)):
        writer = threading.Thread(target=path.write_bytes, args=(bytes(size),))
        writer.start()
        if fits:
            assert read_bytes(path, max_bytes=1000) == bytes(size)
        else:
            with pytest.raises(LimitError, match=r"pipe: over 0 MB$"):
                read_bytes(path, max_bytes=1000)
        writer.join()


def test_bytes_are_written_and_no_other_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_atomic(path, b"new")
    write_atomic(path, memoryview(b"newer"))
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path) -> None:
    with writing(path) as temporary:
        temporary.write_bytes(b"half")
        raise InputError("its own")


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_block_that_raises_changes_nothing(before: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(InputError, match="its own"):
        write_half(path)
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["model.pt"])
    assert before is None or path.read_bytes() == before


def test_the_target_is_complete_at_all_times(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")
    with writing(path) as temporary:
        assert temporary.parent == path.parent  # a rename is atomic only within a folder
        temporary.write_bytes(b"half of the new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"half of the new"


@pytest.mark.parametrize(
    ("code", "text"), [(errno.ENOSPC, "disk full"), (errno.EIO, "input/output error")]
)
def test_a_failing_disk_keeps_the_previous_file(
    code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(files, "_sync", fail)
    with pytest.raises(FileError, match=rf"model\.pt: {text}, previous file kept"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """Record the inodes that are flushed, with the content of `tmp_path/target` at that time."""
    found: list[tuple[int, bytes]] = []

    def fsync(handle: int) -> None:
        target = tmp_path / "target"
        file = target / "file" if target.is_dir() else target
        found.append((os.fstat(handle).st_ino, file.read_bytes() if file.exists() else b""))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
def test_a_file_is_flushed_before_its_name_changes_and_the_folder_after(
    tmp_path: Path, flushed: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "target"
    path.write_bytes(b"old")
    write_atomic(path, b"new")
    assert flushed == [(inode(path), b"old"), (inode(tmp_path), b"new")]


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
def test_a_folder_is_flushed_with_its_files(
    tmp_path: Path, flushed: list[tuple[int, bytes]]
) -> None:
    path = tmp_path / "target"
    path.mkdir()
    (path / "file").write_bytes(b"old")
    with files.writing_folder(path) as folder:
        (folder / "file").write_bytes(b"new")
    assert flushed == [
        (inode(path / "file"), b"old"), (inode(path), b"old"), (inode(tmp_path), b"new"),
    ]  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="folders are flushed on POSIX alone")
def test_many_files_are_flushed_once_with_their_folder(
    tmp_path: Path, flushed: list[tuple[int, bytes]]
) -> None:
    with files.writing_many(tmp_path) as put:
        put("other", b"1")
        put("target", b"2")
    assert flushed == [(inode(tmp_path), b"2")]


def test_a_failing_file_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with files.writing_many(tmp_path) as put:
        put("first", b"long content")
        with pytest.raises(FileError, match=r"taken: .*directory.*, previous file kept$"):
            put("taken", b"longer content")
        put("last", b"short")
    assert {p.name for p in tmp_path.iterdir()} == {"first", "taken", "last"}
    assert (tmp_path / "first").read_bytes() == b"long content"
    assert (tmp_path / "last").read_bytes() == b"short"


def test_a_missing_folder_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file or directory"):
        write_atomic(tmp_path / "missing" / "model.pt", b"")


def test_a_folder_in_place_of_the_file_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(FileError, match="directory"):
        write_atomic(tmp_path / "model.pt", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_file_error_of_the_block_is_not_wrapped(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"^own words$"), writing(tmp_path / "model.pt"):
        raise FileError("own words")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(mask: int, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    before = os.umask(mask)
    try:
        write_atomic(path, b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "model.pt", tmp_path / "link.pt"
    real.write_bytes(b"old")
    link.symlink_to(real)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    """As root, renaming over `/dev/null` would replace it by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="no /dev/null")
def test_the_null_device_stays_a_device() -> None:
    write_atomic(Path("/dev/null"), b"gone")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("name", ["n" * 250, "é" * 120])
def test_a_name_as_long_as_file_systems_allow(name: str, tmp_path: Path) -> None:
    write_atomic(tmp_path / name, b"new")
    assert [p.name for p in tmp_path.iterdir()] == [name]
