"""Measure a host: decode the golden vectors and time one decode."""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.bundle.reader import EMBEDDED, Bundle, open_bundle
from vae_runtime.verification import TOLERANCE, read_golden

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
# Packages that are installed once for these tests.
CACHE = Path(os.environ.get("VAE_TEST_CACHE") or ROOT / "build" / "embedding")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Missing(Exception):
    """A tool that a host needs is missing; the message says which."""


@dataclass(frozen=True)
class Row:
    """One host in the table.

    Attributes:
        host: the software that runs the graph.
        example: the folder of its example.
        size: bytes on disk, without the operating system and the interpreter.
        start: seconds from the start of a process to its first image, or until a server is ready.
        ms: median milliseconds of decoding one latent vector, or of one request to a server.
        max_error: the largest |pixel - torch's pixel| over the bundle's golden vectors.
    """

    host: str
    example: str
    size: int
    start: float
    ms: float
    max_error: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"tolerance": TOLERANCE, "ok": self.max_error <= TOLERANCE}


class Vectors:
    """An unpacked bundle and its decoder's golden vectors, as arrays and as raw files.

    Attributes:
        folder: the bundle, unpacked and unchanged.
        graph: its conditional decoder, or the decoder of a model without classes.
        z: f32[N, D].
        label: i64[N]; the index after the last class means "no label".
        image: f32[N, C, H, W], torch's output.
        sampler: the inputs of the sampler, and the images f32[N, C, H, W] that it must return.
    """

    def __init__(self, source: str | Path, work: Path) -> None:
        self.work = work
        self.folder = work / "bundle"
        path = EMBEDDED / f"{source}.zip" if isinstance(source, str) else source
        with zipfile.ZipFile(path) as archive:
            archive.extractall(self.folder)
        self.bundle: Bundle = open_bundle(self.folder)
        role = "conditional_decoder" if self.bundle.manifest.spec.classes else "decoder"
        golden = read_golden(self.bundle)
        self.graph = self.folder / f"{role}.onnx"
        self.z: NDArray[np.float32] = golden[f"{role}.in.z"]
        self.image: NDArray[np.float32] = golden[f"{role}.out.image"]
        start = "sampler.in."
        inputs = {k.removeprefix(start): v for k, v in golden.items() if k.startswith(start)}
        self.sampler = inputs, golden["sampler.out.image"]
        none = np.zeros(len(self.z), np.int64)
        self.label: NDArray[np.int64] = golden.get(f"{role}.in.label", none)
        self.z.tofile(work / "z.f32")
        self.label.tofile(work / "label.i64")

    @property
    def files(self) -> list[str]:
        """Arguments of a driver: the files of latents, labels and, to write, images."""
        return [str(self.work / name) for name in ("z.f32", "label.i64", "image.f32")]

    @property
    def spec(self) -> Any:
        """The bundle's spec."""
        return self.bundle.manifest.spec

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """The rows that have a label, bool[N]."""
        return self.label < len(self.spec.classes)

    def error(self, images: NDArray[Any], rows: Any = slice(None)) -> float:
        """The largest difference from torch in these rows; infinite for a wrong shape or a NaN."""
        expected = self.image[rows]
        if images.shape != expected.shape or not np.isfinite(images).all():
            return float("inf")
        return float(np.abs(images.astype(np.float64) - expected).max())

    def drive(
        self, command: Sequence[str | Path], environment: dict[str, str] | None = None
    ) -> tuple[float, float]:
        """Run a driver that writes float32 images; return its error and the printed time in ms."""
        out = Path(self.files[2])
        out.unlink(missing_ok=True)
        printed = call(command, environment, cwd=self.work)
        images = np.fromfile(out, np.float32).reshape(self.image.shape)
        return self.error(images), float(printed)


def call(
    command: Sequence[str | Path], environment: dict[str, str] | None = None, **options: Any
) -> Any:
    """Run a command and return its standard output; raise with all its output if it fails."""
    options = {"text": True, "timeout": 300} | options
    env = ONE_THREAD | (environment or {})
    args = [str(arg) for arg in command]
    done = subprocess.run(args, capture_output=True, check=False, env=env, **options)
    assert done.returncode == 0, f"{args}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout


def start_time(
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    repeat: int = 5,
    **options: Any,
) -> float:
    """Return the median seconds of a process that makes one image."""
    times = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        call(command, environment, **options)
        times.append(time.perf_counter() - begin)
    return median(times[1:])  # the first run fills the disk cache


def time_calls(decode: Callable[[], Any], repeat: int = 200) -> float:
    """Return the median milliseconds of one call."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        decode()
        times.append(time.perf_counter() - begin)
    return 1e3 * median(times)


def folder_size(*paths: Path) -> int:
    """Return the total bytes of the given files and of all files in the given folders."""
    files = [f for p in paths for f in (p.rglob("*") if p.is_dir() else [p])]
    return sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink())


@functools.cache
def load_example(path: str) -> Any:
    """Import a file of an example as a module, such as `web_app/app.py`."""
    file = EXAMPLES / path
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # Flask looks up its templates through it
    spec.loader.exec_module(module)
    return module
