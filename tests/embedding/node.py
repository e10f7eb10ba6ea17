"""Node as a host: the example with its packages, which are installed once."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from .host import CACHE, EXAMPLES, ROOT, Missing, Row, Vectors, folder_size, start_time

ENGINE = ROOT / "runtime" / "vae_runtime" / "studio" / "engine"
HERE = Path(__file__).parent


def install_once(folder: Path, lock: Path, *commands: list[str]) -> None:
    """Run commands in `folder` unless they succeeded there before with the same lock file.

    Raises:
        Missing: the registry cannot be reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done, wanted = folder / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tests run in several processes
        if done.is_file() and done.read_text() == wanted:
            return
        for command in commands:
            _install(folder, command)
        done.write_text(wanted)


def _install(folder: Path, command: list[str]) -> None:
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{command[0]} could not install its packages in 300 s") from error
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise Missing(f"{command[0]} could not install its packages: {reason}")


def node_app() -> Path:
    """Copy the example and its engine to a folder of this process, next to the shared packages."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")
    if not ENGINE.is_dir():
        raise Missing("the JavaScript engine, vae_runtime/studio/engine, is not here")
    base, source = CACHE / "node", EXAMPLES / "node"
    base.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(source / name, base)
    install_once(base, base / "package-lock.json", ["npm", "ci", "--no-fund", "--no-audit"])
    folder = Path(tempfile.mkdtemp(prefix="app-", dir=base))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    skip = shutil.ignore_patterns("node_modules", "engine")
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=skip)
    shutil.copytree(ENGINE, folder / "engine")
    return folder


def node(vectors: Vectors) -> Row:
    """Measure onnxruntime-node."""
    folder = node_app()
    driver = ["node", HERE / "drive.mjs", folder / "vae.mjs", vectors.graph]
    error, ms = vectors.drive([*driver, *vectors.files])
    start = start_time(["node", folder / "digits.mjs", vectors.graph, "/dev/null", "-n", "1"])
    size = folder_size(*needed(folder.parent / "node_modules"), folder / "engine", vectors.graph)
    return Row("Node, onnxruntime-node", "examples/node", size, start, ms, error)


def needed(modules: Path) -> list[Path]:
    """Find the files that this platform needs: onnxruntime-node ships libraries for five."""
    arch = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    libraries = modules.glob(f"onnxruntime-node/bin/*/{platform.system().lower()}/{arch}")
    return [*libraries, modules / "onnxruntime-node" / "dist", modules / "onnxruntime-common"]
