"""What every host is asked: decode the golden vectors, and say how long one decode takes."""

from __future__ import annotations

import os
import subprocess
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
# What is installed once for these tests; `build/` is not committed.
CACHE = Path(os.environ.get("VAE_TEST_CACHE") or ROOT / "build" / "embedding")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


class Missing(Exception):
    """A tool that a host needs is not here; the message says which."""


@dataclass(frozen=True)
class Row:
    """One host in the table.

    Attributes:
        host: what runs the graph.
        example: its folder.
        size: bytes that must be on the machine besides the operating system and the interpreter.
        start: seconds from starting a process to its first image; of a server, until it is ready.
        ms: milliseconds of one decode, one code a call, the median; of a server, of one request.
        max_error: the largest |pixel - torch's| over the bundle's golden vectors.
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
    """A bundle as a folder and its decoder's golden vectors, as arrays and as plain files.

    Attributes:
        folder: the bundle, unpacked and unchanged.
        graph: its conditional decoder, or of a model without classes its decoder.
        z: f32[N, D].
        label: i64[N]; the index behind the last class means "no label".
        image: f32[N, C, H, W], torch's.
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
        none = np.zeros(len(self.z), np.int64)
        self.label: NDArray[np.int64] = golden.get(f"{role}.in.label", none)
        self.z.tofile(work / "z.f32")
        self.label.tofile(work / "label.i64")

    @property
    def files(self) -> list[str]:
        """Arguments of a driver: latents, labels, and where the images go."""
        return [str(self.work / name) for name in ("z.f32", "label.i64", "image.f32")]

    @property
    def spec(self) -> Any:
        """The bundle's spec."""
        return self.bundle.manifest.spec

    def error(self, images: NDArray[Any]) -> float:
        """The largest difference from torch; infinite for another shape or a NaN."""
        if images.shape != self.image.shape or not np.isfinite(images).all():
            return float("inf")
        return float(np.abs(images.astype(np.float64) - self.image).max())

    def drive(
        self, command: Sequence[str | Path], environment: dict[str, str] | None = None
    ) -> tuple[float, float]:
        """Run a driver that writes the images as float32; its error, and the ms that it prints."""
        out = Path(self.files[2])
        out.unlink(missing_ok=True)
        printed = call(command, environment, cwd=self.work)
        images = np.fromfile(out, np.float32).reshape(self.image.shape)
        return self.error(images), float(printed)


def call(
    command: Sequence[str | Path], environment: dict[str, str] | None = None, **options: Any
) -> Any:
    """A command's standard output; what went wrong, whole, if it fails."""
    options = {"text": True, "timeout": 300} | options
    env = ONE_THREAD | (environment or {})
    words = [str(c) for c in command]
    done = subprocess.run(words, capture_output=True, check=False, env=env, **options)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done.stdout


def start_time(
    command: Sequence[str | Path],
    environment: dict[str, str] | None = None,
    repeat: int = 5,
    **options: Any,
) -> float:
    """Seconds that a whole process takes to its first image and its end, the median."""
    times = []
    for _ in range(repeat + 1):
        begin = time.perf_counter()
        call(command, environment, **options)
        times.append(time.perf_counter() - begin)
    return median(times[1:])  # the first run fills the disk's cache


def time_calls(decode: Callable[[], Any], repeat: int = 200) -> float:
    """Milliseconds of one call, the median."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        decode()
        times.append(time.perf_counter() - begin)
    return 1e3 * median(times)


def folder_size(*places: Path) -> int:
    """Bytes of files, and of all files in folders."""
    files = [f for p in places for f in (p.rglob("*") if p.is_dir() else [p])]
    return sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink())
