"""Temporary files of dead processes are removed; those of running processes are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae_runtime.files import atomic as atomic
from vae_runtime.files.atomic import temporary

fcntl = pytest.importorskip("fcntl", reason="no locks of files here")
pytestmark = pytest.mark.torch_free


@pytest.fixture(autouse=True)
def not_searched_yet() -> None:
    atomic._remove_abandoned.cache_clear()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A temporary file that another process is writing."""
    path = tmp_path / ".model.pt.ba9876543210.part"
    path.write_bytes(b"half")
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_abandoned_files_are_removed(tmp_path: Path, running: Path) -> None:
    kept = [".model.pt.part", ".model.pt.0123456789AB.part", "model.pt.0123456789ab.part"]
    for name in [*kept, ".model.pt.0123456789ab.part"]:
        (tmp_path / name).touch()
    (tmp_path / ".bundle.0123456789ab.part").mkdir()
    (tmp_path / ".bundle.0123456789ab.part" / "decoder.onnx").touch()
    with temporary(tmp_path / "model.pt", Path.touch) as mine:
        assert names(tmp_path) == sorted([*kept, running.name, mine.name])
    assert names(tmp_path) == sorted([*kept, running.name])


def test_a_locked_file_belongs_to_another_process(tmp_path: Path, running: Path) -> None:
    with pytest.raises(BlockingIOError):
        atomic.lock_path(running)
    (tmp_path / "free").touch()
    handle = atomic.lock_path(tmp_path / "free")
    assert handle is not None
    os.close(handle)
    assert atomic.lock_path(tmp_path / "none") is None


def test_an_interrupt_while_locking_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = atomic.lock_path

    def once(path: Path) -> int | None:
        monkeypatch.setattr(atomic, "lock_path", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "lock_path", once)
    with pytest.raises(KeyboardInterrupt), temporary(tmp_path / "model.pt", Path.touch):
        pass
    assert names(tmp_path) == []
