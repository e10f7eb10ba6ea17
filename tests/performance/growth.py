"""How time grows: with the number of latents, the latent dimension, the pixels of a picture."""

from __future__ import annotations

import numpy as np

from vae_models import preset

from .subjects import Subject, make, subject
from .timing import Row, Table, in_turns, once, rounded

NUMBERS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
DIMENSIONS = (2, 8, 32, 128, 256)
SIDES = (28, 64, 128, 256)
_PATIENCE_S = 1.0  # for all rounds of one size, of which there are three at least


def run(table: Table) -> None:
    """Three series; the slope is that of log time over log size, over the larger half of each."""
    mlp = subject("reference")
    numbers = NUMBERS[:5] if table.quick else NUMBERS
    table.add(_row("latents decoded", "n", numbers, [_decoding(mlp, n) for n in numbers]))
    found = [_decoding(_of_latent(d), 1_000) for d in DIMENSIONS]
    table.add(_row("1,000 latents decoded", "latent_dim", DIMENSIONS, found))
    sides = SIDES[:2] if table.quick else SIDES
    pixels = tuple(side * side for side in sides)
    seconds = [_decoding(_of_side(side), 8) for side in sides]
    table.add(_row("8 latents decoded, convolutions", "pixels", pixels, seconds))


def _decoding(subject_: Subject, n: int) -> float:
    """Median seconds to decode n latents."""
    model, z = subject_.model(), subject_.latents(min(n, 100_000))
    times = max(1, n // 100_000)  # a million floats of 784 pixels would fill the memory

    def work() -> None:
        for _ in range(times):
            model.decode(z, 3)

    rounds = max(3, min(30, round(_PATIENCE_S / once(work))))
    return in_turns({"ours": work}, rounds)["ours"].median


def _of_latent(dim: int) -> Subject:
    return make(preset("reference", "cvae", (1, 28, 28), 10, latent_dim=dim))


def _of_side(side: int) -> Subject:
    return make(preset("default", "cvae", (1, side, side), 10, hidden=(16, 32)))


def _row(work: str, what: str, sizes: tuple[int, ...], seconds: list[float]) -> Row:
    half = len(sizes) // 2
    slope = float(np.polyfit(np.log(sizes[half:]), np.log(seconds[half:]), 1)[0])
    series = ", ".join(f"{n:,}: {rounded(1e3 * s)} ms" for n, s in zip(sizes, seconds, strict=True))
    return Row(f"growth: {work}", what, slope, "cost", 1.1, seconds[-1], seconds[0], "s", series)
