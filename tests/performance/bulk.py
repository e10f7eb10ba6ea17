"""Time and memory of `vae-run sample` when it writes a million digits to one `.npy` file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .models import cvae
from .timing import Row, Table

_LARGE = 1_000_000
_SMALL = 1_000
# The command exits the process itself, so the peak size is printed by an exit handler.
_MEASURED = """
import atexit, resource, sys
from vae_runtime.cli import main
peak = lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
atexit.register(peak)
main()
"""


def run(table: Table) -> None:
    """Compare the time with decoding alone, and the peak memory with that of few digits."""
    n = 5_000 if table.quick else _LARGE
    mlp = cvae("reference")
    model, z = mlp.load(), mlp.latents(100_000)
    with tempfile.TemporaryDirectory(prefix="vae-performance-") as folder:
        out = Path(folder) / "digits.npy"
        small = _sample(mlp.path, _SMALL, out)
        seconds: list[tuple[float, float, float]] = []
        for _ in range(1 if table.quick else 3):
            start = time.perf_counter()
            large = _sample(mlp.path, n, out)
            middle = time.perf_counter()
            for _ in range(0, n, len(z)):
                model.decode(z[:n], 3)
            end = time.perf_counter()
            _write(out, n * 784 * 4)
            seconds.append((middle - start, end - middle, time.perf_counter() - end))
    ours, alone, disk = sorted(seconds)[len(seconds) // 2]
    size = f"{n * 784 * 4 / 1e9:.1f} GB written"
    table.add(
        Row(f"sample {n:,} digits to .npy", "the decode alone", ours / alone, "cost", 1.3,
            ours, alone, "s", size)
    )  # fmt: skip
    floor = "the decode, then the disk, alone"
    table.add(
        Row(f"sample {n:,} digits to .npy", floor, ours / (alone + disk), "cost", None,
            ours, alone + disk, "s", f"{disk:.1f} s of it to write and flush as many zeros")
    )  # fmt: skip
    grown = (large - small) / 1024
    table.add(
        Row(f"memory, {n:,} digits against {_SMALL:,}", "50 MB more", grown / 50, "cost", 1.0,
            grown, 50.0, "MB")
    )  # fmt: skip


def _write(out: Path, size: int) -> None:
    """Replace a file by zeros and flush it to the disk."""
    out.unlink()
    block = bytes(256 * 784 * 4)
    with out.open("wb") as file:
        for _ in range(0, size, len(block)):
            file.write(block)
        os.fsync(file.fileno())


def _sample(bundle: str, n: int, out: Path) -> int:
    """Run the command in its own process and return its peak resident size in kB (Linux)."""
    words = ["sample", "-b", bundle, "--digit", "3", "-n", str(n), "--seed", "0", "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *words], capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1])
