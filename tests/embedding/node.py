"""Node as a host: the example with its packages, installed once."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from .host import CACHE, EXAMPLES, ROOT, Missing, Row, Vectors, folder_size, start_time

ENGINE = ROOT / "runtime" / "vae_runtime" / "studio" / "engine"
HERE = Path(__file__).parent


def install_once(folder: Path, lock: Path, command: list[str]) -> None:
    """Run `command` in `folder` unless it succeeded there before with the same lock file.

    Raises:
        Missing: the registry cannot be reached.
    """
    stamp, wanted = folder / ".installed", hashlib.sha256(lock.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise Missing(f"{command[0]} could not install its packages: {reason}")
    stamp.write_text(wanted)


def node_app() -> Path:
    """The example, its engine and its packages in one folder, as an app has them."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Missing(f"{tool} is not installed")
    if not ENGINE.is_dir():
        raise Missing("the JavaScript engine, vae_runtime/studio/engine, is not here")
    folder = CACHE / "node"
    skip = shutil.ignore_patterns("node_modules", "engine")
    shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True, ignore=skip)
    shutil.rmtree(folder / "engine", ignore_errors=True)
    shutil.copytree(ENGINE, folder / "engine")
    install_once(folder, folder / "package-lock.json", ["npm", "ci", "--no-fund", "--no-audit"])
    return folder


def node(vectors: Vectors) -> Row:
    """onnxruntime-node."""
    folder = node_app()
    driver = ["node", HERE / "drive.mjs", folder / "vae.mjs", vectors.graph]
    error, ms = vectors.drive([*driver, *vectors.files])
    start = start_time(["node", folder / "digits.mjs", vectors.graph, "/dev/null", "-n", "1"])
    size = folder_size(*needed(folder / "node_modules"), folder / "engine", vectors.graph)
    return Row("Node, onnxruntime-node", "examples/node", size, start, ms, error)


def needed(modules: Path) -> list[Path]:
    """What this platform runs: onnxruntime-node ships the libraries of five."""
    arch = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    libraries = modules.glob(f"onnxruntime-node/bin/*/{platform.system().lower()}/{arch}")
    return [*libraries, modules / "onnxruntime-node" / "dist", modules / "onnxruntime-common"]
