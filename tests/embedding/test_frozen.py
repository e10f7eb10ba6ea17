"""The package inside a PyInstaller app and inside a zip, and in odd environments."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "runtime" / "vae_runtime"
# Prints a checksum of three samples, or is `vae-run`.
APP = """
import hashlib, sys
if sys.argv[1:]:
    from vae_runtime.cli import main
    main()
import vae_runtime as vae
with vae.load("mnist", device="cpu") as model:
    print(hashlib.sha256(model.sample(3, label=3, seed=0, dtype="uint8")).hexdigest())
"""


def expected() -> str:
    with vae.load("mnist", device="cpu") as model:
        return hashlib.sha256(model.sample(3, label=3, seed=0, dtype="uint8")).hexdigest()


def test_the_package_works_inside_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for path in PACKAGE.rglob("*"):
            if path.is_file() and not {"assets", "__pycache__", "node_modules"} & {*path.parts}:
                archive.write(path, path.relative_to(PACKAGE.parent))
    (tmp_path / "app.py").write_text(f"import sys\nsys.path.insert(0, 'app.zip'){APP}")
    command = [sys.executable, "app.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected()}\n"
    done = subprocess.run([*command, "sample", "--digit", "3", "--seed", "0", "-o", "x.npy"],
                          cwd=tmp_path, capture_output=True, text=True, check=True)  # fmt: skip
    with vae.load("mnist") as model:
        assert np.array_equal(np.load(tmp_path / "x.npy"), model.sample(1, 3, seed=0))


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_names_that_an_ascii_system_cannot_write(tmp_path: Path, locale: str) -> None:
    """Python then reads names as surrogates, and prints what it cannot write as escapes."""
    folder = tmp_path / "Ziffern-ä-数"
    folder.mkdir()
    env = {k: v for k, v in os.environ.items() if not k.startswith("LC_")}
    env |= {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    how = {"cwd": folder, "env": env, "capture_output": True, "check": False}
    command = [sys.executable, "-m", "vae_runtime"]
    for args in (["sample", "-o", "ü.png"], ["reconstruct", "ü.png", "-o", "ö"],
                 ["encode", "ü.png", "-o", "-", "-f", "csv"], ["score", "ü.png"],
                 ["unpack", "modèle"], ["info", "modèle"]):  # fmt: skip
        done = subprocess.run([*command, *args], **how)  # type: ignore[call-overload]
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (args, done.stderr)
    assert (folder / "ö").is_dir()
    done = subprocess.run([*command, "info", "数"], **how)  # type: ignore[call-overload]
    assert done.returncode == 6
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.slow
def test_a_one_file_app(tmp_path: Path) -> None:
    """Build it where nothing but the runtime is installed, and run it where nothing is."""
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    for command in (
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")],
        [*pip, "-c", str(ROOT / "constraints.txt"), f"{ROOT}[cpu]", "pyinstaller"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "app.py").write_text(APP)
    build = [str(python), "-m", "PyInstaller", "--onefile", "--log-level", "ERROR", "app.py"]
    subprocess.run(build, cwd=tmp_path, check=True, capture_output=True)
    app = tmp_path / "dist" / "app"
    print(f"\n{app.stat().st_size / 1e6:.1f} MB")
    assert app.stat().st_size < 80_000_000
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {"PATH": "/nowhere", "HOME": str(elsewhere)}

    def run(*args: str) -> str:
        done = subprocess.run([app, *args], cwd=elsewhere, env=env, capture_output=True, text=True,
                              check=True)  # fmt: skip
        return done.stdout

    assert run() == f"{expected()}\n"
    assert run("verify").endswith("device cpu: agrees with torch\n")
    run("sample", "--digit", "3", "--seed", "0", "-o", "x.npy")
    with vae.load("mnist") as model:
        assert np.array_equal(np.load(elsewhere / "x.npy"), model.sample(1, 3, seed=0))
