"""Growth of decoding time with the number of latents, the latent dimension and the image size."""

from __future__ import annotations

import numpy as np

from vae_models import preset

from .models import BenchmarkModel, cvae, export_untrained
from .timing import Row, Table, in_turns, once, rounded

NUMBERS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
DIMENSIONS = (2, 8, 32, 128, 256)
SIDES = (28, 64, 128, 256)
_SECONDS_PER_SIZE = 1.0  # but at least three rounds


def run(table: Table) -> None:
    """Measure three series; fit the slope of log time over log size to the larger half of each."""
    mlp = cvae("reference")
    numbers = NUMBERS[:5] if table.quick else NUMBERS
    table.add(_row("latents decoded", "n", numbers, [_seconds_to_decode(mlp, n) for n in numbers]))
    found = [_seconds_to_decode(_with_latent_dim(d), 1_000) for d in DIMENSIONS]
    table.add(_row("1,000 latents decoded", "latent_dim", DIMENSIONS, found))
    sides = SIDES[:2] if table.quick else SIDES
    pixels = tuple(side * side for side in sides)
    seconds = [_seconds_to_decode(_with_side(side), 8) for side in sides]
    table.add(_row("8 latents decoded, convolutions", "pixels", pixels, seconds))


def _seconds_to_decode(benchmark: BenchmarkModel, n: int) -> float:
    """Return the median seconds to decode n latents."""
    model, z = benchmark.load(), benchmark.latents(min(n, 100_000))
    times = max(1, n // 100_000)  # a million images as floats would not fit in memory

    def work() -> None:
        for _ in range(times):
            model.decode(z, 3)

    rounds = max(3, min(30, round(_SECONDS_PER_SIZE / once(work))))
    return in_turns({"ours": work}, rounds)["ours"].median


def _with_latent_dim(dim: int) -> BenchmarkModel:
    return export_untrained(preset("reference", "cvae", (1, 28, 28), 10, latent_dim=dim))


def _with_side(side: int) -> BenchmarkModel:
    return export_untrained(preset("default", "cvae", (1, side, side), 10, hidden=(16, 32)))


def _row(work: str, what: str, sizes: tuple[int, ...], seconds: list[float]) -> Row:
    half = len(sizes) // 2
    slope = float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])
    series = ", ".join(f"{n:,}: {rounded(1e3 * s)} ms" for n, s in zip(sizes, seconds, strict=True))
    return Row(f"growth: {work}", what, slope, "cost", 1.1, seconds[-1], seconds[0], "s", series)
