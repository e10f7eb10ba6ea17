"""Time and memory of `vae-run sample` when it writes a million digits to one `.npy` file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .models import cvae
from .timing import Row, Table

_LARGE = 1_000_000
_SMALL = 1_000
# The command ends with os._exit, which skips exit handlers. `ru_maxrss` would count the parent too.
_MEASURED = """
import os, sys
from vae_runtime.cli import main
end = os._exit

def report(code):
    print(open("/proc/self/status").read(), file=sys.stderr, flush=True)
    end(code)

os._exit = report
main()
"""


def run(table: Table) -> None:
    """Compare the time with decoding alone, and the peak memory with that of a thousand digits."""
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
        Row.of(
            f"sample {n:,} digits to .npy", "decoding alone", "cost", 1.3, ours, alone, "s", size
        )
    )
    table.add(
        Row.of(f"sample {n:,} digits to .npy", "decoding, then writing, alone", "cost", None, ours,
               alone + disk, "s", f"{disk:.1f} s of it to write and flush as many zeros")
    )  # fmt: skip
    grown = (large - small) / 1024
    table.add(
        Row.of(
            f"memory, {n:,} digits against {_SMALL:,}", "50 MB more", "cost", 1.0, grown, 50, "MB"
        )
    )


def _write(out: Path, size: int) -> None:
    """Replace a file with zeros and flush it to disk."""
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
    peak = re.search(r"VmHWM:\s+(\d+) kB", done.stderr)
    assert peak, done.stderr
    return int(peak[1])
