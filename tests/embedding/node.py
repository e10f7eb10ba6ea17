"""Node as a host: the npm package, installed once from its tarball, with each of its runtimes."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.javascript.conftest import PACKAGE, npm_pack
from vae_runtime.bundle.archive import pack

from .host import CACHE, Missing, Row, Vectors, folder_size, start_time

HERE = Path(__file__).parent
NODE, WEB = "onnxruntime-node", "onnxruntime-web"
# Make one image, as the README does.
THREE = """import { load, toPNG } from "vae-onnx";
const model = await load("bundle.zip");
await toPNG(await model.sample({ label: 3, seed: 0 }), model.image);
"""


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


def node_app(runtime: str) -> Path:
    """Make a folder of this process next to the installed packages.

    Args:
        runtime: `onnxruntime-web`, on which the package depends, or `onnxruntime-node`.
    """
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")
    if not (PACKAGE / "node_modules").is_dir():
        raise Missing("no tools to pack the package: run npm ci --prefix runtime/javascript")
    base = CACHE / runtime
    packed = Path(tempfile.mkdtemp(prefix="pack-"))
    atexit.register(shutil.rmtree, packed, ignore_errors=True)
    tarball = npm_pack(packed)
    add = [str(tarball), *([f"{NODE}@1.30.0"] if runtime == NODE else [])]
    quiet = ["--no-fund", "--no-audit", "--ignore-scripts"]
    install_once(base, tarball, ["npm", "install", "--prefix", str(base), *add, *quiet])
    folder = Path(tempfile.mkdtemp(prefix="app-", dir=base))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copy(HERE / "drive.mjs", folder)
    (folder / "three.mjs").write_text(THREE)
    return folder


def node(vectors: Vectors, runtime: str = NODE) -> Row:
    """Measure the npm package, as installed, with onnxruntime-node."""
    folder = node_app(runtime)
    error, ms = vectors.drive(["node", folder / "drive.mjs", vectors.graph, *vectors.files])
    bundle = folder / "bundle.zip"
    bundle.write_bytes(pack(vectors.bundle.read_all()))
    start = start_time(["node", "three.mjs"], cwd=folder)
    size = folder_size(folder.parent / "node_modules", bundle)
    return Row(f"Node, {runtime}", "runtime/javascript", size, start, ms, error)


def node_web(vectors: Vectors) -> Row:
    """Measure the npm package, as installed, with its only dependency."""
    return node(vectors, WEB)
