"""Time an export with its parity check and compare it with bare `torch.onnx.export` calls.

    python tests/performance/export.py [--runs 5]

Prints one line per model: the median seconds of both and their ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vae_export import export_checkpoint
from vae_export.graphs import graphs_of
from vae_models import build, preset
from vae_runtime.prior import Prior
from vae_train import Checkpoint, TrainConfig

TARGET = 2.0


def checkpoint(family: str, backbone: str) -> Checkpoint:
    """Build an untrained model of the default preset for 28×28 images, with random examples."""
    torch.manual_seed(0)
    config = preset("default", family, (1, 28, 28), 10, backbone=backbone)
    rng = np.random.default_rng(0)
    return Checkpoint(
        config,
        build(config).state_dict(),
        TrainConfig(),
        Prior.normal(config.latent_dim),
        torch.from_numpy(rng.integers(0, 256, (64, 1, 28, 28), np.uint8)),
        torch.arange(64) % 10 if family == "cvae" else None,
        tuple(str(k) for k in range(10)) if family == "cvae" else (),
    )


def bare(trained: Checkpoint, folder: Path) -> None:
    """Export each graph with one call, straight to a file."""
    config = trained.model
    example = {
        "image": torch.rand(2, *config.image_shape),
        "z": torch.randn(2, config.latent_dim),
        "label": torch.tensor([1, 2]),
    }
    for graph in graphs_of(trained.build()):
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                graph.module,
                tuple(example[name] for name in graph.inputs),
                folder / f"{graph.role}.onnx",
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=18,
                dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in graph.inputs),
                dynamo=True,
                verbose=False,
            )


def ours(trained: Checkpoint, folder: Path) -> None:
    """Export a bundle, with all checks and golden vectors."""
    export_checkpoint(trained, folder / "bundle")


def seconds(work: Callable[[Checkpoint, Path], None], trained: Checkpoint) -> float:
    """Time one run in a fresh folder."""
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        work(trained, Path(name))
        return time.perf_counter() - start


def main() -> None:
    """Measure four models and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(f"{'model':10} {'graphs':>6} {'bare s':>8} {'ours s':>8} {'ratio':>6}  (target {TARGET})")
    for family, backbone in (("ae", "mlp"), ("cvae", "mlp"), ("ae", "conv"), ("cvae", "conv")):
        trained = checkpoint(family, backbone)
        times: dict[str, list[float]] = {"bare": [], "ours": []}
        for round_ in range(runs + 1):
            for name, work in (("bare", bare), ("ours", ours)):
                taken = seconds(work, trained)
                if round_:  # the first round includes lazy imports of torch
                    times[name].append(taken)
        a, b = (statistics.median(times[name]) for name in ("bare", "ours"))
        graphs = 3 if family == "cvae" else 2
        print(f"{family + ' ' + backbone:10} {graphs:6} {a:8.2f} {b:8.2f} {b / a:6.2f}", flush=True)


if __name__ == "__main__":
    main()
