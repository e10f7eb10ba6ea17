"""A disk that is full or fails: the previous file is kept, and the exit code is 6."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.security.kills import Artefact, artefacts, prepare
from vae_runtime.cli.options import OutputOptions
from vae_runtime.cli.output import Column, write_folder, write_images
from vae_runtime.errors import FileError
from vae_runtime.files import atomic as files

pytestmark = pytest.mark.torch_free

PAGE = 4096
DISK = 16 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs may not be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def kinds() -> list[Artefact]:
    """Every artefact; the images are noise, which no format can compress."""
    found = artefacts()
    prepare(found)
    return [kind._replace(write=noise) if "images" in kind.name else kind for kind in found]


def noise(path: Path, k: int) -> None:
    whole = np.random.default_rng(k).random((64, 1, 28, 28), np.float32)
    write_images(Column.of(whole), OutputOptions(out=str(path), scale=1))


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of each file in a folder."""
    if path.is_dir():
        return {p.name: p.read_bytes() for p in sorted(path.iterdir())}
    return {path.name: path.read_bytes()}


def leave(folder: Path, free: int) -> None:
    """Fill the disk until this many bytes are free."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    space = os.statvfs(folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - free)


def pages(kind: Artefact, folder: Path) -> int:
    """Return the pages that the new version needs in addition to the old one."""
    (folder / "ballast").unlink(missing_ok=True)
    other = folder / "other"
    other.mkdir()
    kind.write(other / kind.name, 1)
    if kind.name == "metrics.jsonl":
        kind.write(other / kind.name, 1)
    taken = sum(-(-len(raw) // PAGE) for raw in content(other / kind.name).values())
    shutil.rmtree(other)
    return taken - (-(-(folder / kind.name).stat().st_size // PAGE)
                    if kind.name == "metrics.jsonl" else 0)  # fmt: skip


@pytest.mark.parametrize("each", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_full_disk_at_every_offset(each: int, disk: Path) -> None:
    tally: Counter[str] = Counter()
    found = kinds()
    for kind in found:
        path = disk / kind.name
        (disk / "ballast").unlink(missing_ok=True)
        kind.write(path, 0)
        before, most = content(path), pages(kind, disk)
        for offset in np.linspace(0, most - 1, each).astype(int).tolist():
            leave(disk, offset * PAGE)
            with pytest.raises(FileError, match=r"disk full, previous (file|folder|lines) kept$"):
                kind.write(path, 1)
            assert content(path) == before, (kind.name, offset)
            assert {p.name for p in disk.iterdir()} == {kind.name, "ballast"}
            tally[kind.name] += 1
        leave(disk, (most + 1) * PAGE)
        kind.write(path, 1)
        assert kind.name == "metrics.jsonl" or content(path) != before
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    print(f"\n{sum(tally.values())} offsets of a full disk: {dict(tally)}")
    assert len(found) in (9, 10), "with torch or without"
    assert sum(tally.values()) == each * len(found)


def test_the_error_for_a_full_disk(disk: Path) -> None:
    path = disk / "s.npy"
    path.write_bytes(b"old")
    leave(disk, 8 * PAGE)
    command = [sys.executable, "-c", "from vae_runtime.cli import main; main()", "sample", "-n",
               "64", "--seed", "0", "-o", str(path)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr == f"error: {path}: disk full, previous file kept\n"
    assert path.read_bytes() == b"old"
    assert {p.name for p in disk.iterdir()} == {"s.npy", "ballast"}


def test_a_folder_of_images_on_a_full_disk(disk: Path) -> None:
    images = Column.of(np.random.default_rng(0).random((64, 1, 28, 28), np.float32))
    leave(disk, 8 * PAGE)
    with pytest.raises(FileError, match=r"008\.png: disk full$"):
        write_folder(images, disk / "out", 1)
    assert sorted(p.name for p in (disk / "out").iterdir()) == [f"{i:03}.png" for i in range(8)]


def failing(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("step", ["make", "sync", "rename"])
def test_a_failing_disk_at_every_step(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    for kind in kinds():
        path = tmp_path / kind.name
        kind.write(path, 0)
        before = content(path)
        if kind.name == "metrics.jsonl":  # appended to in place, without these steps
            path.unlink()
            continue
        with monkeypatch.context() as patch:
            if step == "make":
                patch.setattr(files, "_make_file", failing)
                patch.setattr(files, "_make_folder", failing)
            elif step == "sync":
                patch.setattr(files, "_sync", failing)
            else:
                patch.setattr(files, "swap", failing)
                patch.setattr(Path, "replace", failing)
            with pytest.raises(FileError, match=r"input/output error, previous") as caught:
                kind.write(path, 1)
        assert caught.value.exit_code == 6
        assert content(path) == before
        assert [p.name for p in tmp_path.iterdir()] == [kind.name]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        count += 1
    print(f"\n{count} artefacts, failure at {step}")


def test_a_write_that_fails_half_way(tmp_path: Path) -> None:
    """A limit on the size of files makes `write` itself fail, on any disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for kind in kinds():
        path = tmp_path / kind.name
        kind.write(path, 0)
        before = content(path)
        largest = 1000 + (path.stat().st_size if kind.name == "metrics.jsonl" else 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
        try:
            with pytest.raises(
                FileError, match=r"file too large, previous (file|folder|lines) kept"
            ):
                kind.write(path, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert content(path) == before
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_read_only_folder(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")

    def refused(*_: Any, **__: Any) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "open", refused)
        with pytest.raises(FileError, match=rf"{os.strerror(code).lower()}, previous file kept$"):
            files.write_atomic(path, b"new")
    assert content(tmp_path) == {"model.pt": b"old"}
