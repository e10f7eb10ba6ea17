"""`vae-run bench`: compare latency and throughput with a bare session, for each batch size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..console import pluralize, print_json
from . import options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs import Decoder, Encoder

EPILOG = """\b
Examples:
  vae-run bench
  vae-run bench --bundle cvae/ --batch 1 --batch 64 --role encoder
  vae-run bench --device cuda --json
"""
_BATCHES = (1, 16, 64, 256, 1024)


class Timing(NamedTuple):
    """Median timings for one batch size.

    Attributes:
        batch: images per call.
        ms: milliseconds per call of this library.
        images_per_second: throughput of this library.
        bare_ms: milliseconds per call of a bare onnxruntime session.
        overhead: ms / bare_ms.
    """

    batch: int
    ms: float
    images_per_second: float
    bare_ms: float
    overhead: float


@click.command(epilog=EPILOG)
@options.integer(
    "--batch",
    "batches",
    max=1_000_000,
    multiple=True,
    help=f"Images per call. May be repeated. [default: {', '.join(map(str, _BATCHES))}]",
)
@options.choice("--role", "decoder", "encoder", help="Graph to measure.")
@options.choice("--dtype", "float32", "uint8", help="Data type of the decoder's images.")
@options.number(
    "--seconds", default=0.5, min=0.01, max=60, help="How long to measure each batch size."
)
@options.as_json
@options.model(as_argument=True)
def command(
    batches: tuple[int, ...],
    role: str,
    dtype: str,
    seconds: float,
    as_json: bool,
    model_options: options.ModelOptions,
) -> None:
    """Measure the speed of this machine.

    Alternates between this library and a bare onnxruntime session, so that other programs slow
    both.
    """
    with _graph(model_options, role, dtype) as graph:
        timings = [
            measure(*_pair(graph, dtype, batch), batch, seconds) for batch in batches or _BATCHES
        ]
        device = graph.device
    if as_json:
        print_json({
            "role": role, "dtype": dtype, "device": device, "threads": model_options.threads,
            "timings": [t._asdict() for t in timings],
        })  # fmt: skip
        return
    click.echo(f"{role} on {device}, {pluralize(model_options.threads, 'thread')}, {dtype}")
    click.echo(f"{'batch':>6} {'ms':>10} {'images/s':>12} {'bare ms':>10} {'ratio':>6}")
    for t in timings:
        click.echo(f"{t.batch:>6} {t.ms:>10.3f} {t.images_per_second:>12,.0f} {t.bare_ms:>10.3f} "
                   f"{t.overhead:>6.2f}")  # fmt: skip


def measure(
    library: Callable[[], object], bare: Callable[[], object], batch: int, seconds: float
) -> Timing:
    """Time two functions alternately for `seconds`, at least three times each, after a warm-up."""
    from statistics import median

    library()
    bare()
    times: tuple[list[float], list[float]] = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for call, seen in zip((library, bare), times, strict=True):
            start = time.perf_counter()
            call()
            seen.append(time.perf_counter() - start)
    ours, theirs = map(median, times)
    return Timing(batch, 1e3 * ours, batch / ours, 1e3 * theirs, ours / theirs)


def _graph(chosen: options.ModelOptions, role: str, dtype: str) -> Encoder | Decoder:
    """Load the graph that the library would use for this role and dtype."""
    model = chosen.load()
    if role == "encoder":
        return model.encoder()
    return model.decoder(conditional=bool(model.spec.classes), dtype=dtype)


def _pair(
    graph: Encoder | Decoder, dtype: str, batch: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions that run one batch: with this library and with onnxruntime alone."""
    import numpy as np

    from ..graphs import Encoder

    spec, label = graph.spec, 0 if graph.takes_label else None
    inputs: dict[str, NDArray[Any]] = {"label": np.zeros(batch, np.int64)} if label == 0 else {}
    bare = graph.session.raw
    if isinstance(graph, Encoder):
        encoder, images = graph, np.full((batch, *spec.image.shape), 0.5, np.float32)
        inputs["image"] = images
        return lambda: encoder(images, label), lambda: bare.run(None, inputs)
    decoder, z = graph, spec.prior.sample(batch, seed=0)
    inputs["z"] = z
    return lambda: decoder(z, label, dtype=dtype), lambda: bare.run(None, inputs)
