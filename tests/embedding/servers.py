"""Servers as hosts: each runs on 127.0.0.1 in its own environment, which is installed once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vae_export.targets.triton import write_triton

from .host import (
    CACHE,
    EXAMPLES,
    ONE_THREAD,
    ROOT,
    Missing,
    Row,
    Vectors,
    folder_size,
    time_calls,
)  # fmt: skip
from .inference_protocol import Client
from .node import install_once

_READY_S = 60  # seconds until a server must be ready
TRITON_ROWS = 256
MLSERVER_ROWS = 1024


def environment(name: str) -> Path:
    """Make an environment with this package and an example's requirements; return its Python."""
    folder = CACHE / f"{name}-venv"
    requirements = EXAMPLES / name / "requirements.txt"
    # Without pip and bytecode the installation takes half the time.
    make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    install = [sys.executable, "-m", "pip", "--python", str(folder), "install", "-q"]
    install += ["--no-compile"]
    # pytriton's server supports only NumPy 1, and our package requires NumPy 2.
    ours = ["--no-deps", "-e", str(ROOT)] if name == "triton" else ["-e", f"{ROOT}[cpu]"]
    theirs = [*install, "-r", str(requirements)]
    install_once(folder, requirements, make, theirs, [*install, *ours])
    return folder / "bin" / "python"


def free_ports(n: int) -> list[int]:
    """Find n ports of 127.0.0.1 that nothing listens on."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Started:
    """A running server: its address, the seconds until it was ready, and its process."""

    def __init__(self, url: str, seconds: float, process: subprocess.Popen[bytes]) -> None:
        self.url, self.seconds, self.process = url, seconds, process


@contextmanager
def serve(
    command: list[str | Path],
    url: str,
    ready: str,
    log: Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Started]:
    """Run a server; enter the block when `url + ready` answers 200."""
    begin = time.perf_counter()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(c) for c in command], stdout=file, stderr=file, env=ONE_THREAD | (env or {}),
            cwd=cwd,
        )  # fmt: skip
        try:
            while not _answers(url + ready):
                waited = time.perf_counter() - begin
                assert process.poll() is None, log.read_text()[-3000:]
                assert waited < _READY_S, f"not ready: {log.read_text()[-3000:]}"
                time.sleep(0.02)
            yield Started(url, time.perf_counter() - begin, process)
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@contextmanager
def web_app(vectors: Vectors) -> Iterator[Started]:
    """Run examples/web_app with waitress."""
    (port,) = free_ports(1)
    command = [environment("web_app"), EXAMPLES / "web_app" / "app.py", vectors.folder]
    url, log = f"http://127.0.0.1:{port}", vectors.work / "web_app.log"
    with serve([*command, "--port", str(port)], url, "/api/model", log) as started:
        yield started


@contextmanager
def mlserver(vectors: Vectors) -> Iterator[Started]:
    """Run examples/mlserver with this bundle on free ports."""
    if sys.version_info >= (3, 13):
        raise Missing("MLServer 1.7.1 needs Python 3.12 or older")
    python = environment("mlserver")
    folder = vectors.work / "mlserver"
    shutil.copytree(EXAMPLES / "mlserver", folder)
    port, grpc = free_ports(2)
    _update_json(folder / "settings.json", http_port=port, grpc_port=grpc)
    extra = {"version": "1", "extra": {"bundle": str(vectors.folder)}}
    _update_json(folder / "model-settings.json", parameters=extra)
    command = [python.parent / "mlserver", "start", folder]
    url, log = f"http://127.0.0.1:{port}", vectors.work / "mlserver.log"
    with serve(command, url, "/v2/models/vae/ready", log, cwd=folder) as started:
        yield started


def _update_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@contextmanager
def triton(vectors: Vectors) -> Iterator[Started]:
    """Run the repository of `vae-export --triton` in Triton's Python backend, examples/triton."""
    python = environment("triton")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = next((python.parent.parent / "lib").glob("python*/site-packages"))
    home = packages / "pytriton" / "tritonserver"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise Missing(f"this tritonserver has no Python backend for Python {version}")
    backend = vectors.work / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    shutil.copy(stub, backend)
    repository = vectors.work / "models"
    _write_repository(vectors, repository)
    (port,) = free_ports(1)
    url, log = f"http://127.0.0.1:{port}", vectors.work / "triton.log"
    command = [
        home / "bin" / "tritonserver", "--model-repository", repository,
        "--backend-directory", backend.parent, "--http-address", "127.0.0.1",
        "--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false",
    ]  # fmt: skip
    # The backend runs the first Python on the path.
    env = {"LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs")}
    env["PATH"] = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    with serve(command, url, "/v2/health/ready", log, env) as started:
        yield started


def _write_repository(vectors: Vectors, repository: Path) -> None:
    """Write the decoders as `vae-export --triton` does, but for the Python backend."""
    bundle = vectors.bundle
    files = {name: bundle.read(spec) for name, spec in bundle.manifest.files().items()}
    for name in write_triton(bundle.manifest, files, repository, "vae"):
        if name.endswith("_encoder"):
            shutil.rmtree(repository / name)
            continue
        config = repository / name / "config.pbtxt"
        text = config.read_text()
        assert 'backend: "onnxruntime"' in text
        config.write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
        shutil.copy(EXAMPLES / "triton" / "model.py", repository / name / "1")


def measure(vectors: Vectors, client: Client, started: Started, row: tuple[str, str]) -> Row:
    """Measure parity on the golden vectors that have a label, and the time of one request."""
    labelled = vectors.labelled
    error = vectors.error(client.decode(vectors.z[labelled], vectors.label[labelled]), labelled)
    one = vectors.z[:1], vectors.label[:1]
    client.decode(*one)
    label_shape = client.label_shape(1)
    client.label_shape = lambda n: label_shape  # type: ignore[method-assign]  # asked once
    ms = time_calls(lambda: client.decode(*one))
    name, example = row
    size = folder_size(CACHE / f"{Path(example).name}-venv") + folder_size(vectors.graph)
    return Row(name, example, size, started.seconds, ms, error)


def mlserver_row(vectors: Vectors) -> Row:
    """Measure MLServer."""
    with mlserver(vectors) as started:
        client = Client(started.url, "vae")
        return measure(vectors, client, started, ("MLServer 1.7.1, HTTP", "examples/mlserver"))


def triton_row(vectors: Vectors) -> Row:
    """Measure Triton's Python backend."""
    with triton(vectors) as started:
        client = Client(started.url, "vae_conditional_decoder")
        return measure(
            vectors, client, started, ("Triton, Python backend, HTTP", "examples/triton")
        )


def web_app_row(vectors: Vectors) -> Row:
    """Measure the web app's JSON API."""
    labelled = vectors.labelled
    with web_app(vectors) as started:

        def decode(z: list[list[float]], label: list[int]) -> np.ndarray:
            body = json.dumps({"z": z, "label": label}).encode()
            head = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{started.url}/api/decode", body, head)
            with urllib.request.urlopen(request, timeout=60) as response:
                return np.array(json.loads(response.read())["images"], np.float64)

        found = decode(vectors.z[labelled].tolist(), vectors.label[labelled].tolist())
        error = vectors.error(found, labelled)
        one = vectors.z[:1].tolist(), vectors.label[:1].tolist()
        ms = time_calls(lambda: decode(*one))
        size = folder_size(CACHE / "web_app-venv", vectors.folder)
        return Row("Python web app, HTTP", "examples/web_app", size, started.seconds, ms, error)
