"""`vae-run` as a process: imports, standard output and interruption."""

from __future__ import annotations

import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from vae_runtime.cli import COMMANDS

pytestmark = pytest.mark.torch_free

MAIN = "import sys; from vae_runtime.cli import main; sys.argv[0] = 'vae-run'; "
HEAVY = ("numpy", "onnxruntime", "PIL", "torch", "onnx", "pyarrow", "distributed")
NEEDS_ARROW = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed: the extra arrow"
)


def python(code: str, *args: str | Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def modules_after(*args: str | Path, cwd: Path) -> tuple[int, set[str]]:
    """Return the exit code and the top-level modules that were imported."""
    code = MAIN + (
        "import os\n"
        "def report(code, end=os._exit):\n"
        "    os.write(2, ('\\n@' + ' '.join(sys.modules)).encode())\n"
        "    end(code)\n"
        "os._exit = report\n"
        "main()"
    )
    done = python(code, *args, cwd=cwd)
    return done.returncode, {n.split(".")[0] for n in done.stderr.decode().split("@")[-1].split()}


@pytest.mark.parametrize(
    "args", [("--help",), ("--version",), *((name, "--help") for name in COMMANDS)]
)
def test_help_imports_little(args: tuple[str, ...], tmp_path: Path) -> None:
    code, modules = modules_after(*args, cwd=tmp_path)
    assert code == 0
    assert "click" in modules
    assert not modules & set(HEAVY)


@pytest.mark.parametrize(
    "args",
    [
        ("sample", "-n", "2"), ("traverse",), ("interpolate",), ("reconstruct", "x.png"),
        ("encode", "x.png"), ("decode", "z.npy"), ("score", "x.png"), ("evaluate", "x.png"),
        ("verify",), ("bench", "--batch", "1", "--seconds", "0.01"), ("info",), ("doctor",),
        pytest.param(("batch", "sample", "3", "out"), marks=NEEDS_ARROW),
    ],
    ids=lambda args: args[0],
)  # fmt: skip
def test_no_command_imports_torch_or_onnx(
    args: tuple[str, ...], cvae_path: Path, tmp_path: Path
) -> None:
    import numpy as np

    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    np.save(tmp_path / "z.npy", np.zeros((1, 6), np.float32))
    bundle = {"info": (cvae_path,), "doctor": ()}.get(args[0], ("-b", cvae_path))
    code, modules = modules_after(*args, *bundle, cwd=tmp_path)
    assert code == 0
    assert "vae_runtime" in modules
    assert not modules & {"torch", "onnx", "vae_models", "vae_train", "vae_export"}


def test_examples_are_in_every_help() -> None:
    for name in COMMANDS:
        done = python(MAIN + "main()", name, "--help")
        assert f"  vae-run {name}" in done.stdout.decode().partition("Examples:")[2]


def test_version() -> None:
    from vae_runtime import __version__

    assert (
        python(MAIN + "main()", "--version").stdout.decode() == f"vae-run, version {__version__}\n"
    )


NOISY = """
import os, sys
import vae_runtime.inference.session
real = vae_runtime.inference.session.onnxruntime
def noisy():
    os.write(1, b"onnxruntime says hello")  # as its C++ code does
    print("so do the libraries of CUDA") if False else None
    return real()
vae_runtime.inference.session.onnxruntime = noisy
from vae_runtime.cli import main
sys.argv[0] = "vae-run"
main()
"""


def test_standard_output_contains_only_the_result(cvae_path: Path, tmp_path: Path) -> None:
    done = python(NOISY, "sample", "-b", cvae_path, "--seed", "0", "-o", "-", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith(b"\x89PNG")
    assert Image.open(io.BytesIO(done.stdout)).size == (64, 64)
    assert b"onnxruntime says hello" in done.stderr
    done = python(NOISY, "verify", "-b", cvae_path, "--json", cwd=tmp_path)
    assert done.stdout.startswith(b"{")


def test_a_reader_that_closes_the_pipe(cvae_path: Path) -> None:
    command = [sys.executable, "-c", MAIN + "main()", "sample", "-b", str(cvae_path),
               "-n", "200000", "-o", "-", "-f", "npy"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(6) == b"\x93NUMPY"
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no sh")
def test_a_closed_standard_output(cvae_path: Path, tmp_path: Path) -> None:
    script = 'exec "$0" -c "$1" sample -b "$2" --seed 0 -o x.png >&-'
    command = ["sh", "-c", script, sys.executable, MAIN + "main()", str(cvae_path)]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"wrote 1 image to x.png (seed 0)\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_standard_output_to_a_full_disk(cvae_path: Path) -> None:
    command = [sys.executable, "-c", MAIN + "main()", "sample", "-b", str(cvae_path), "-o", "-"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 6
    assert done.stderr == b"error: standard output: disk full\n"


def interrupted(command: list[str], cwd: Path) -> tuple[int, bytes, float]:
    """Start a command, wait until it is busy, and press Ctrl-C."""
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(1)
        time.sleep(0.3)
        pressed = time.monotonic()
        child.send_signal(signal.SIGINT)
        code = child.wait(timeout=30)
        return code, child.stderr.read(), time.monotonic() - pressed


STARTED = """
import os
import vae_runtime.inference.session
run = vae_runtime.inference.session.Session.run
def announced(self, *args, **inputs):
    os.write(OWN, b"x")
    return run(self, *args, **inputs)
vae_runtime.inference.session.Session.run = announced
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_between_batches(cvae_path: Path, tmp_path: Path) -> None:
    code = MAIN + "import os; OWN = os.dup(1)\n" + STARTED + "main()"
    # Only the first byte is read, and the pipe must not fill up, so the runs are large.
    command = [sys.executable, "-c", code, "sample", "-b", str(cvae_path), "-n", "10000000",
               "--max-images", "10000000", "-o", "x.npy"]  # fmt: skip
    status, error, seconds = interrupted(command, tmp_path)
    assert status == 130
    assert error == b"error: interrupted\n"
    assert seconds < 5, "a second on an idle machine"
    assert not list(tmp_path.iterdir()), "no half file, no temporary one"


LONG = """
import os, sys
import numpy as np
import vae_runtime as vae
from vae_runtime.inference.interrupt import listen
from vae_runtime.inference.session import Session
from vae_runtime.bundle.reader import open_bundle
listen()
bundle = open_bundle(sys.argv[1])
session = Session(bundle.read(bundle.manifest.graph("decoder").file), device="cpu")
z = np.zeros((1_000_000, 6), np.float32)
os.write(1, b"x")
try:
    session.run(["image"], z=z)
except KeyboardInterrupt:
    os._exit(99)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_inside_one_long_run(vae_path: Path, tmp_path: Path) -> None:
    status, _, seconds = interrupted([sys.executable, "-c", LONG, str(vae_path)], tmp_path)
    assert status in (99, 130), "stopped by the terminate flag, or by the thread that waits for it"
    assert seconds < 5


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("sam", "sample"), ("verify --js", "--json"), ("score --by n", "negative_elbo")],
)
def test_completion(typed: str, offered: str) -> None:
    words = f"vae-run {typed}"
    env = os.environ | {
        "_VAE_RUN_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = python(MAIN + "main()", env=env)
    assert done.returncode == 0
    assert offered in [line.rpartition(",")[2] for line in done.stdout.decode().splitlines()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    import shutil

    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("click asks bash for its version")
    env = os.environ | {"_VAE_RUN_COMPLETE": f"{shell}_source"}
    done = python(MAIN + "main()", env=env)
    assert b"_VAE_RUN_COMPLETE" in done.stdout
