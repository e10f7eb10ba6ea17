"""kill -9 during a write leaves the old or the new file; the next writer cleans up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vae_runtime.files.atomic import temporary

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
]

ROOT = Path(__file__).parents[2]


def kills(count: int, *more: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.kills", str(count), *map(str, more)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    print(done.stdout)
    return done.stdout


def test_a_kill_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    found = kills(40, tmp_path, "light")
    assert "40 kills over" in found
    assert "10 kills among images, whole each time" in found


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    assert "100 kills over" in kills(100, tmp_path)


def make(path: Path) -> None:
    path.write_bytes(b"half")


def test_temporary_files_of_a_running_process_are_kept(tmp_path: Path) -> None:
    sweep = (
        "import sys; from pathlib import Path; from vae_runtime.files.atomic import write_atomic; "
    )
    sweep += "write_atomic(Path(sys.argv[1]), b'other')"
    dead = tmp_path / ".model.pt.0123456789ab.part"
    dead.write_bytes(b"half")
    (tmp_path / ".model.pt.part").write_bytes(b"somebody else's")
    folder = tmp_path / ".bundle.0123456789ab.part"
    folder.mkdir()
    (folder / "decoder.onnx").write_bytes(b"half")
    with temporary(tmp_path / "model.pt", make) as mine:
        dead.write_bytes(b"half")  # this process scans a folder only once
        folder.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", sweep, str(tmp_path / "other")], check=True)
        names = {p.name for p in tmp_path.iterdir()}
        assert names == {mine.name, "other", ".model.pt.part"}
        assert mine.read_bytes() == b"half"
    assert {p.name for p in tmp_path.iterdir()} == {"other", ".model.pt.part"}
