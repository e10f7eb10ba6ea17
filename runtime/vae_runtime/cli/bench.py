"""`vae-run bench`: latency and throughput by batch size, beside the bare session."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ..console import pluralize, print_json
from .options import Source, json_option, model_options

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
    """Medians: milliseconds a call, images a second, the bare session's milliseconds."""

    batch: int
    ms: float
    images_per_second: float
    bare_ms: float
    overhead: float


@click.command(epilog=EPILOG)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 1_000_000),
    multiple=True,
    help=f"May be repeated. [default: {' '.join(map(str, _BATCHES))}]",
)
@click.option(
    "--role", type=click.Choice(["decoder", "encoder"]), default="decoder", show_default=True
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="Of the decoder's images.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.01, 60),
    default=0.5,
    show_default=True,
    help="For each batch size.",
)
@json_option
@model_options
def command(
    batches: tuple[int, ...],
    role: str,
    dtype: str,
    seconds: float,
    as_json: bool,
    source: Source,
) -> None:
    """Measure this machine: the library's call beside a bare onnxruntime session.

    The two take turns, so that whatever else the machine does hits both.
    """
    with _graph(source, role, dtype) as graph:
        timings = [
            measure(*_pair(graph, dtype, batch), batch, seconds) for batch in batches or _BATCHES
        ]
        device = graph.device
    if as_json:
        print_json({"role": role, "dtype": dtype, "device": device, "threads": source.threads,
                    "timings": [t._asdict() for t in timings]})  # fmt: skip
        return
    click.echo(f"{role} on {device}, {pluralize(source.threads, 'thread')}, {dtype}")
    click.echo(f"{'batch':>6} {'ms':>10} {'images/s':>12} {'bare ms':>10} {'ratio':>6}")
    for t in timings:
        click.echo(f"{t.batch:>6} {t.ms:>10.3f} {t.images_per_second:>12,.0f} {t.bare_ms:>10.3f} "
                   f"{t.overhead:>6.2f}")  # fmt: skip


def measure(
    ours: Callable[[], object], bare: Callable[[], object], batch: int, seconds: float
) -> Timing:
    """Call both in turns for so many seconds, at least three times each, after a warm-up."""
    from statistics import median

    ours()
    bare()
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for call, found in zip((ours, bare), times, strict=True):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
    mine, floor = (median(found) for found in times)
    return Timing(batch, 1e3 * mine, batch / mine, 1e3 * floor, mine / floor)


def _graph(source: Source, role: str, dtype: str) -> Encoder | Decoder:
    """The graph that the library would use for this call."""
    from ..autoencoder import LoadedGraphs
    from ..bundle.reader import open_bundle

    bundle = open_bundle(source.bundle)
    options = {"device": source.device, "threads": source.threads, "tf32": source.tf32}
    graphs = LoadedGraphs(bundle, source.variant, options)
    if role == "encoder":
        return graphs.encoder()
    return graphs.decoder(conditional=bool(bundle.manifest.spec.classes), dtype=dtype)


def _pair(
    graph: Encoder | Decoder, dtype: str, batch: int
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The library's call, and onnxruntime's own on the same arrays in one batch."""
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
