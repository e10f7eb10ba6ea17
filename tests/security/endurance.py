"""Run a model many times and measure its memory: `python -m tests.security.endurance [RUNS]`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import vae_runtime as vae
from vae_runtime.errors import InputError

BUNDLE = Path(__file__).parents[1] / "data" / "cvae_mlp.zip"
WARM_UP = 2_000
EVERY = 500


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * 4096


def endure(runs: int) -> tuple[int, int]:
    """Return the growth in bytes after the warm-up: at the end, and the largest.

    One run in eight is refused; one in a hundred loads the model again.
    """
    z = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    bad = z * np.float32("nan")
    images = np.zeros((4, 1, 8, 8), np.uint8)
    model = vae.load(BUNDLE, device="cpu")
    calls: list[Callable[[], object]] = [
        lambda: model.decode(z), lambda: model.decode(z, 3, dtype="uint8"),
        lambda: model.encode(images), lambda: model.reconstruct(images, [0, 1, 2, 3]),
        lambda: model.sample(4, label=1, seed=0), lambda: model.traverse(1, 4, label=2),
        lambda: model.score(images), lambda: refused(model, bad),
    ]  # fmt: skip
    first = largest = 0
    for run in range(-WARM_UP, runs):
        calls[run % len(calls)]()
        if run % 100 == 0:
            model.close()
            model = vae.load(BUNDLE, device="cpu")
        if run % EVERY == 0:
            gc.collect()
            if run == 0:
                first = resident()
            elif run > 0:
                largest = max(largest, resident() - first)
    gc.collect()
    return resident() - first, max(largest, resident() - first)


def refused(model: vae.Autoencoder, bad: object) -> None:
    try:
        model.decode(bad)  # type: ignore[arg-type]
    except InputError:
        return
    raise AssertionError("NaN was decoded")


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    end, most = endure(runs)
    print(
        f"{runs:,} runs after {WARM_UP:,}: grew by {end / 2**20:.2f} MB, at most {most / 2**20:.2f}"
    )


if __name__ == "__main__":
    main()
