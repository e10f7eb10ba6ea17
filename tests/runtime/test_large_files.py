"""`write_large`: contents, errors, and file systems without direct writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vae_runtime.files.atomic import BLOCK, write_large

pytestmark = pytest.mark.torch_free


def random_bytes(n: int) -> bytes:
    return np.random.default_rng(n).bytes(n)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12_345])
@pytest.mark.parametrize("part", [1_000_003, 5 * BLOCK])
def test_the_file_holds_every_byte_in_order(size: int, part: int, tmp_path: Path) -> None:
    whole, path = random_bytes(size), tmp_path / "a"
    path.write_bytes(b"the longer previous content" * (size == 1))
    write_large(path, (whole[i : i + part] for i in range(0, size, part)))
    assert path.read_bytes() == whole


def test_an_array_may_change_after_it_was_written(tmp_path: Path) -> None:
    array = np.zeros(BLOCK // 8, np.uint8)

    def parts() -> Iterator[memoryview]:
        for k in range(40):
            array[:] = k
            yield array.data

    write_large(tmp_path / "a", parts())
    found = np.fromfile(tmp_path / "a", np.uint8).reshape(40, -1)
    assert (found == np.arange(40)[:, None]).all()


def test_an_error_while_producing_a_part_is_raised(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield bytes(3 * BLOCK)
        raise KeyError("made")

    with pytest.raises(KeyError, match="made"):
        write_large(tmp_path / "a", parts())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("size", [10, 3 * BLOCK])
def test_a_full_disk_is_an_error(size: int) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_large(Path("/dev/full"), [bytes(size)])


def test_a_file_system_without_direct_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="no fcntl")
    plain, asked = fcntl.fcntl, []

    def refuse(handle: int, command: int, *flags: int) -> int:
        if command == fcntl.F_SETFL:
            asked.append(flags)
            raise OSError(errno.EINVAL, "no")
        return int(plain(handle, command, *flags))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    whole = random_bytes(2 * BLOCK + 5)
    write_large(tmp_path / "a", [whole])
    assert (tmp_path / "a").read_bytes() == whole
    assert asked
