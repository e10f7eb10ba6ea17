"""Run every command under strace: it must open no connection and write only its outputs."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from vae_runtime.cli import COMMANDS
from vae_runtime.images import encode_image
from vae_runtime.studio import fetch

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "cvae_mlp.zip"
CALLS = (
    "socket,connect,sendto,sendmsg,sendmmsg,bind,listen,openat,open,creat,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,symlink,symlinkat,link,linkat,truncate,chmod,fchmodat,execve"
)
NETWORK = re.compile(r"\b(socket|connect|sendto|sendmsg|sendmmsg|bind|listen)\(")
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
PATHS = re.compile(r'"((?:[^"\\]|\\.)*)"')
# The C library asks a local service for the user's name, and torch creates a semaphore.
LOCAL = re.compile(r"socket\(AF_UNIX|nscd")
HARMLESS = ("/dev/null", "/dev/tty", "/proc/self/", "/proc/thread-self/", "/dev/shm/sem.")
# Arguments for every command; some have several kinds of output.
USES: dict[str, list[list[str]]] = {
    "sample": [["-n", "4", "-o", "out/s.png"], ["-n", "4", "-o", "out/s.npz"],
               ["-n", "3", "-o", "out/folder"], ["--show"]],
    "reconstruct": [["in/a.png", "-o", "out/r.png"]],
    "compress": [["in/a.png", "-o", "out/c.vaez"]],
    "decompress": [["out/c.vaez", "-o", "out/e.png"]],
    "denoise": [["in/a.png", "--noise", "0.2", "-o", "out/d.png"]],
    "traverse": [["--dim", "1", "-o", "out/t.gif"]],
    "interpolate": [["in/a.png", "in/b.png", "-o", "out/i.webp"]],
    "encode": [["in/", "-o", "out/c.csv"]],
    "decode": [["in/z.npy", "-o", "out/d.jpg"]],
    "score": [["in/", "-o", "out/scores.csv"]],
    "detect": [["in/", "--normal", "in/", "-o", "out/d.csv", "--maps", "out/maps"]],
    "evaluate": [["in/", "--samples", "2"]],
    "info": [[]],
    "verify": [[]],
    "doctor": [[]],
    "bench": [["--batch", "1", "--seconds", "0.01"]],
    "studio": [["--out", "out/studio.html"], ["--out", "out/studio"]],
    "batch": [["sample", "3", "out/parquet"]],
    "unpack": [[str(BUNDLE), "out/files"]],
}  # fmt: skip
MODEL = {"doctor": [], "info": [str(BUNDLE)], "unpack": []}  # the others take --bundle
SERVERS = {"serve"}  # listens until it is stopped; tests/runtime/test_server.py shows where
NEEDS = {  # a package that the command needs and that is missing here, or None
    "studio": None if fetch.present() else "onnxruntime-web",
    "batch": None if importlib.util.find_spec("pyarrow") else "pyarrow",
}


def caches(home: Path) -> tuple[Path, ...]:
    """Folders where matplotlib, which draws the report, caches its list of fonts."""
    return (home / ".cache" / "matplotlib",)


class Seen(NamedTuple):
    """The network calls of a process and its children, and the paths that they changed."""

    network: list[str]
    written: set[Path]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a home folder, inputs and a folder for outputs."""
    for name in ("home", "in", "out"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for name in [*"ab", *(f"c{i}" for i in range(40))]:
        pixels = rng.random((1, 8, 8), np.float32)
        (tmp_path / "in" / f"{name}.png").write_bytes(encode_image(pixels))
    np.save(tmp_path / "in" / "z.npy", rng.normal(size=(3, 8)).astype(np.float32))
    return tmp_path


def watch(place: Path, module: str, *arguments: str) -> Seen:
    """Run a command under strace, in the environment of an ordinary user."""
    code = f"import sys; sys.argv[0] = {module!r}; from {module}.cli import main; main()"
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    env |= dict.fromkeys(("HOME", "TMPDIR", "VAE_ONNX_CACHE"), str(place / "home"))
    env |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    log = place / "strace.log"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log),
         sys.executable, "-c", code, *arguments],
        cwd=place, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower() and "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in log.read_text(errors="replace").splitlines() if "ENOENT" not in line]
    network = [line for line in lines if NETWORK.search(line) and not LOCAL.search(line)]
    return Seen(network, written(lines, place))


def written(lines: list[str], place: Path) -> set[Path]:
    found = set()
    for line in lines:
        call = line.partition("(")[0].split()[-1]
        if call in ("execve", *NETWORK.pattern.split("|")) or "= -1 " in line:
            continue
        if call in ("open", "openat") and not WRITES.search(line):
            continue
        for name in PATHS.findall(line):
            if not name.startswith(HARMLESS):
                found.add(Path(os.path.normpath(place / name)))
    return found


def contained(seen: Seen, place: Path, outputs: str = "out") -> int:
    """Assert that no connection was opened and nothing was written outside the output folder."""
    assert not seen.network
    # Python tests whether the temporary folder is writable; torch creates an empty folder in it.
    known = (place / outputs, place / "home")
    assert not {path for path in seen.written if not any(map(path.is_relative_to, known))}
    home = place / "home"
    assert not [f for f in home.rglob("*") if f.is_file() and f.parent not in caches(home)]
    return len(seen.written)


def test_connections_and_stray_files_are_noticed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check detects a process that does both."""
    (place / "bad").mkdir()
    (place / "bad" / "__init__.py").touch()
    (place / "bad" / "cli.py").write_text(
        "import os, socket\n"
        "def main():\n"
        "    s = socket.socket(); s.connect_ex(('127.0.0.1', 9)); s.close()\n"
        "    open('stray', 'w').close(); os.rename('stray', 'moved')\n"
    )
    seen = watch(place, "bad")
    assert any("connect(" in line for line in seen.network)
    assert seen.written == {place / "stray", place / "moved"}


def test_sampling_is_contained(place: Path) -> None:
    seen = watch(place, "vae_runtime", "sample", "-b", str(BUNDLE), "-o", "out/s.png")
    assert contained(seen, place) == 2, "the temporary file, the picture"


@pytest.mark.slow
def test_every_command_is_contained(place: Path) -> None:
    assert USES.keys() | SERVERS == set(COMMANDS)
    count = paths = 0
    for command, uses in USES.items():
        if NEEDS.get(command):
            print(f"\n{command}: left out, no {NEEDS[command]} here")
            continue
        model = MODEL.get(command, ["-b", str(BUNDLE)])
        for arguments in uses:
            paths += contained(watch(place, "vae_runtime", command, *arguments, *model), place)
            count += 1
    print(f"\n{count} commands, 0 connections, {paths} paths written, all in the output folder")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_training_and_export_are_contained(place: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(place / "in" / "d.npz", images=rng.integers(0, 256, (64, 8, 8)).astype(np.uint8))
    train = [
        "ae",
        "--data",
        "in/d.npz",
        "--out",
        "out/m.pt",
        "--epochs",
        "1",
        "--preset",
        "reference",
    ]
    seen = watch(place, "vae_train", *train)
    paths = contained(seen, place)
    seen = watch(place, "vae_export", "--ckpt", "out/m.pt", "--out", "out/b.zip")
    paths += contained(seen, place)
    print(f"\ntrain and export, 0 connections, {paths} paths written, all in the output folder")
