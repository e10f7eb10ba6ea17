"""The wheel and the sdist: built from a clean copy of the tree, checked, installed, used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from vae_runtime.studio import fetch

pytestmark = [pytest.mark.torch_free, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
MOST, MAX_WITH_STUDIO = 7_500_000, 12_000_000  # bytes of a wheel
TOOLS = ("build", "hatchling", "twine", "check-wheel-contents")
PACKAGES = ("vae_runtime", "vae_models", "vae_train", "vae_export")


def command(*words: str | Path, **options: Any) -> str:
    """Run a command and return its output; if it fails, fail the test with that output."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def pip(python: Path, *words: str | Path) -> str:
    """Run this environment's pip for another environment, which then needs no pip of its own."""
    return command(sys.executable, "-m", "pip", "--python", python, *words, cwd=python.parent)


def environment(folder: Path, *requirements: str | Path) -> Path:
    """Create a virtual environment and return its folder of programs."""
    command(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    pip(python, "install", "-q", "-c", ROOT / "constraints.txt", *requirements)
    return python.parent


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("tools"), *TOOLS)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git tracks, without any others."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("checkout")
    listed = command(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT
    )
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it without npm."""
    out = tmp_path_factory.mktemp("dist")
    path = tmp_path_factory.mktemp("no-npm")
    env = os.environ | {"PATH": str(path)}
    command(tools / "python", "-m", "build", "--no-isolation", "-o", out, checkout, env=env)
    return out


def wheel_in(folder: Path) -> Path:
    (found,) = folder.glob("*.whl")
    return found


def test_the_checkers_find_nothing(built: Path, tools: Path) -> None:
    # W002, duplicates: an attribution is beside its file and where licences are looked for.
    # W004: the hook for PyInstaller has the name that PyInstaller looks for.
    words = ["--ignore", "W002,W004", "--toplevel", ",".join(PACKAGES)]
    command(tools / "check-wheel-contents", *words, wheel_in(built))
    found = command(tools / "twine", "check", "--strict", *built.iterdir())
    assert found.count("PASSED") == 2


def test_a_wheel_holds_four_packages_and_no_more(built: Path) -> None:
    wheel = wheel_in(built)
    print(f"\n{wheel.name}: {wheel.stat().st_size:,} bytes")
    assert wheel.stat().st_size <= MOST
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"vae_onnx-{wheel.name.split('-')[1]}.dist-info"}
    embedded = [f"vae_runtime/embedded/{name}.zip" for name in ("mnist", "fashion")]
    for name in (*embedded, "vae_runtime/py.typed"):
        assert name in names
    assert not [n for n in names if "node_modules" in n or "/assets/" in n or n.endswith(".pyc")]


def test_an_sdist_holds_the_sources_and_no_data(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    print(f"\n{sdist.name}: {sdist.stat().st_size:,} bytes")
    with tarfile.open(sdist) as archive:
        sizes = {m.name.partition("/")[2]: m.size for m in archive.getmembers()}
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt",
                 "hatch_build.py", "scripts/test", "tests/conftest.py"):  # fmt: skip
        assert name in sizes
    for part in ("ubyte", "node_modules", "studio/assets", ".pt", "__pycache__"):
        assert not [name for name in sizes if part in name], part
    embedded = "runtime/vae_runtime/embedded/"
    assert max(size for name, size in sizes.items() if not name.startswith(embedded)) < 500_000


def test_a_wheel_with_the_studio_s_engine(checkout: Path, tools: Path, tmp_path: Path) -> None:
    if not fetch.present():
        pytest.skip(f"no onnxruntime-web: run {fetch.COMMAND}")
    tree = tmp_path / "tree"
    shutil.copytree(checkout, tree)
    shutil.copytree(fetch.ASSETS, tree / fetch.ASSETS.relative_to(ROOT))
    command(tools / "python", "-m", "build", "--no-isolation", "--wheel", "-o", tmp_path, tree)
    wheel = wheel_in(tmp_path)
    print(f"\n{wheel.name} with onnxruntime-web: {wheel.stat().st_size:,} bytes")
    assert wheel.stat().st_size <= MAX_WITH_STUDIO
    names = zipfile.ZipFile(wheel).namelist()
    assert f"vae_runtime/studio/assets/{fetch.ORT}" in names
    assert not [name for name in names if "javascript" in name]
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    words = ["-m", "vae_runtime", "studio", "--out", "page.html"]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command(sys.executable, *words, cwd=tmp_path, env=env)
    sources = sorted(path.name for path in (ROOT / "runtime" / "javascript" / "src").iterdir())
    held = sorted(path.name for path in (tmp_path / "site/vae_runtime/studio/engine").iterdir())
    assert held == sources
    assert (tmp_path / "page.html").stat().st_size > 4_000_000


def test_a_wheel_is_installed_and_used_where_nothing_else_is(built: Path, tmp_path: Path) -> None:
    """The README's first command, but with the wheel: `pip install`, `vae-run sample`."""
    programs = environment(tmp_path / "venv", f"{wheel_in(built)}[cpu]")
    listed = pip(programs / "python", "list", "--format", "freeze")
    assert not [line for line in listed.splitlines() if line.startswith(("torch", "onnx=="))]
    words = ["sample", "--digit", "3", "-n", "16", "--seed", "0", "-o", "threes.png"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command(programs / "vae-run", *words, cwd=tmp_path, env=env)
    assert (tmp_path / "threes.png").read_bytes().startswith(b"\x89PNG")
    found = command(programs / "vae-run", "verify", cwd=tmp_path, env=env)
    assert found.endswith("device cpu: agrees with torch\n")
    done = subprocess.run(
        [programs / "vae-train", "ae", "--data", "digits", "--out", "x.pt"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install" in done.stderr
    assert done.stderr.count("\n") == 1
