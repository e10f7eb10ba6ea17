"""A million digits to one `.npy`, by the command itself: time beside the decode, and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .subjects import subject
from .timing import Row, Table

_MANY = 1_000_000
_FEW = 1_000
# The command ends its process itself, so the size is asked for before it does.
_MEASURED = """
import atexit, resource, sys
from vae_runtime.cli import main
most = lambda: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
atexit.register(most)
main()
"""


def run(table: Table) -> None:
    """Two rows: time, in turns with the decode alone, and the most memory a process held."""
    n = 5_000 if table.quick else _MANY
    mlp = subject("reference")
    model, z = mlp.model(), mlp.latents(100_000)
    with tempfile.TemporaryDirectory(prefix="vae-performance-") as folder:
        out = Path(folder) / "digits.npy"
        few = _sample(mlp.path, _FEW, out)
        seconds: list[tuple[float, float, float]] = []
        for _ in range(1 if table.quick else 3):
            start = time.perf_counter()
            many = _sample(mlp.path, n, out)
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
    grown = (many - few) / 1024
    table.add(
        Row(f"memory, {n:,} digits against {_FEW:,}", "50 MB more", grown / 50, "cost", 1.0,
            grown, 50.0, "MB")
    )  # fmt: skip


def _write(out: Path, size: int) -> None:
    """Zeros to a file that is not there yet, flushed to the disk."""
    out.unlink()
    piece = bytes(256 * 784 * 4)
    with out.open("wb") as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
        os.fsync(file.fileno())


def _sample(bundle: str, n: int, out: Path) -> int:
    """Run the command in a process of its own; its largest resident size in kilobytes (Linux)."""
    words = ["sample", "-b", bundle, "--digit", "3", "-n", str(n), "--seed", "0", "-o", str(out)]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *words], capture_output=True, text=True, check=True
    )
    return int(done.stderr.split()[-1])
