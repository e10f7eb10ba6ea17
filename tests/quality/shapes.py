"""Draw the frontier of decoder shapes: microseconds per image against the quality of the samples.

    python -m tests.quality.shapes train --data FOLDER --classifier FILE [--device cuda] …
    python -m tests.quality.shapes time

`train` trains the default CVAE on MNIST with each decoder and each seed, fits its prior and judges
samples and reconstructions; `time` exports each decoder and times all of them in turns in a bare
session. Both write docs/shapes-results.json and docs/shapes-results.md, and a run of `train` goes
on where it was stopped.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.performance.timing import Times, Work, in_turns
from tests.quality.classifier import load_or_train
from tests.quality.judge import SAMPLES_PER_CLASS, Judge, pixels
from vae_models import CVAE, ModelConfig, build, preset
from vae_models.autoencoder import scale_logits
from vae_models.conv import sizes
from vae_models.cvae import LabelTable
from vae_models.mlp import MLPDecoder, film, film_parts
from vae_runtime.datasets import load_dataset
from vae_runtime.inference.session import onnxruntime
from vae_train.config import recipe
from vae_train.data import split, to_device
from vae_train.loop import fit
from vae_train.prior_fit import fit_prior, sample_latents

ROOT = Path(__file__).parents[2]
CLASSES, BATCH, COMPONENTS = 10, 64, 20
MEASURED = ("fidelity", "ratio", "precision", "recall", "reconstructions", "error")


@dataclass(frozen=True)
class Shape:
    """A decoder of 28×28 images: entry at 7×7, blocks there, blocks at 14×14, and the head.

    Attributes:
        coarse, fine: channels at 7×7 and at 14×14.
        coarse_blocks, fine_blocks: residual blocks at each of these resolutions.
        norm: `group`, or `affine`, a scale and a shift without statistics.
        activation: `silu` or `relu`.
        separable: whether 3×3 convolutions are depthwise, followed by pointwise ones.
        wide: factor of the channels of the convolution before the head; 0 leaves it out.
        dense: hidden layers of a fully connected decoder instead of all that.
    """

    coarse: int = 64
    fine: int = 32
    coarse_blocks: int = 1
    fine_blocks: int = 1
    norm: str = "group"
    activation: str = "silu"
    separable: bool = False
    wide: int = 2
    dense: tuple[int, ...] = ()


TODAY = Shape()
SHAPES = {
    "today": TODAY,
    "ReLU": replace(TODAY, activation="relu"),
    "affine": replace(TODAY, norm="affine"),
    "affine, ReLU": replace(TODAY, norm="affine", activation="relu"),
    "separable": replace(TODAY, separable=True),
    "no wide layer": replace(TODAY, wide=0),
    "equal wide layer": replace(TODAY, wide=1),
    "fine 16": replace(TODAY, fine=16),
    "fine 16, coarse 32": replace(TODAY, coarse=32, fine=16),
    "fine 24": replace(TODAY, fine=24),
    "no fine block": replace(TODAY, fine_blocks=0),
    "two coarse blocks": replace(TODAY, coarse_blocks=2, fine_blocks=0),
    "fine 16, wide 4": replace(TODAY, fine=16, wide=4),
    "fine 24, no wide layer": replace(TODAY, fine=24, wide=0),
    "fine 16, affine, ReLU": replace(TODAY, fine=16, norm="affine", activation="relu"),
    "lean": replace(TODAY, coarse_blocks=2, fine_blocks=0, norm="affine", activation="relu"),
    "dense": Shape(dense=(1024, 512)),
}  # fmt: skip


class Affine(nn.Module):
    """Scale and shift each channel, without statistics; an exporter can fold it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _norm(shape: Shape, channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels) if shape.norm == "group" else Affine(channels)


def _conv(shape: Shape, a: int, b: int) -> nn.Module:
    if not shape.separable:
        return nn.Conv2d(a, b, 3, padding=1)
    return nn.Sequential(nn.Conv2d(a, a, 3, padding=1, groups=a), nn.Conv2d(a, b, 1))


class Block(nn.Module):
    """The residual block of `vae_models.conv`, with this shape's layers."""

    def __init__(self, shape: Shape, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(shape, channels), _norm(shape, channels)
        self.conv1, self.conv2 = (_conv(shape, channels, channels) for _ in range(2))
        self.act = F.silu if shape.activation == "silu" else F.relu
        if shape.norm == "affine":  # as in Fixup (Zhang et al. 2019): begin as the identity
            last = self.conv2[-1] if shape.separable else self.conv2
            nn.init.zeros_(last.weight)

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        h = self.norm2(self.conv1(self.act(self.norm1(x))))
        h = h if label is None else film(h, label)
        return x + self.conv2(self.act(h))


class ShapedDecoder(nn.Module):
    """A decoder of one shape; takes and returns what `ConvDecoder` does."""

    def __init__(self, config: ModelConfig, shape: Shape) -> None:
        super().__init__()
        (h, w), *_ = sizes(config.image_shape, 2)[::-1]
        coarse, fine = shape.coarse, shape.fine
        self.start = (coarse, h, w)
        self.entry = nn.Linear(config.latent_dim, coarse * h * w)
        self.coarse = nn.ModuleList(Block(shape, coarse) for _ in range(shape.coarse_blocks))
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.fine = nn.ModuleList(Block(shape, fine) for _ in range(shape.fine_blocks))
        self.norm = _norm(shape, fine)
        self.wide = _conv(shape, fine, shape.wide * fine) if shape.wide else None
        self.head = nn.Conv2d(max(shape.wide, 1) * fine, 4, 3, padding=1)
        self.act = F.silu if shape.activation == "silu" else F.relu
        self.film_widths = [2 * coarse] * shape.coarse_blocks + [2 * fine] * shape.fine_blocks
        self.label_width = sum(self.film_widths)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        parts = film_parts(label, self.film_widths, "film")
        x = self.entry(z).unflatten(1, self.start)
        for block, part in zip(self.coarse, parts, strict=False):
            x = block(x, part)
        x = F.pixel_shuffle(self.up(x), 2)
        for block, part in zip(self.fine, parts[len(self.coarse) :], strict=True):
            x = block(x, part)
        x = self.act(self.norm(x))
        if self.wide is not None:
            x = self.act(self.wide(x))
        return F.pixel_shuffle(self.head(x), 2)


def model_of(shape: Shape) -> CVAE:
    """Build the default CVAE of 28×28 digits with a decoder of this shape."""
    config = preset("default", "cvae", (1, 28, 28), CLASSES)
    model = build(config)
    assert isinstance(model, CVAE)
    if shape.dense:
        decoder: Any = MLPDecoder(replace(config, backbone="mlp", hidden=shape.dense))
    else:
        decoder = ShapedDecoder(config, shape)
    model.decoder = decoder
    model.decoder_labels = LabelTable(CLASSES, decoder.label_width, relu=False, null_label=True)
    nn.init.zeros_(model.decoder_labels.linear.weight)
    nn.init.zeros_(model.decoder_labels.linear.bias)
    return model


def train(
    name: str, seed: int, data: str, classifier: Path, device: str, epochs: int | None
) -> dict[str, Any]:
    """Train one shape with the default recipe, fit its prior and judge its images."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    target, began = torch.device(device), time.perf_counter()
    everything, test = load_dataset(data), load_dataset(data, "test")
    config = recipe(
        "default", "cvae", 784, images=len(everything), precision="float32", seed=seed,
        epochs=epochs,
    )  # fmt: skip
    training, held_out = (
        to_device(part, target, labelled=True)
        for part in split(everything, config.validation, seed)
    )
    model = model_of(SHAPES[name]).to(target)
    fit(model, training, held_out, config)
    model.eval()
    model.decoder_labels.guide(config.guidance)
    scale_logits(model.decoder, config.contrast)
    prior = fit_prior(model, training, "auto", COMPONENTS, seed, config.prior_spread).prior
    judge = Judge.of(load_or_train(data, classifier).to(target), everything, test)
    labels = np.repeat(np.arange(CLASSES), SAMPLES_PER_CLASS)

    @torch.no_grad()
    def decode(z: np.ndarray[Any, Any], label: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        pairs = zip(torch.from_numpy(z).split(500), torch.from_numpy(label).split(500), strict=True)
        return torch.cat([model.decode(a.to(target), b.to(target)).cpu() for a, b in pairs]).numpy()

    images = pixels(test)
    mu = sample_latents(model, to_device(test, target, labelled=True), seed, spread=0)
    reconstructed = decode(mu.astype(np.float32), test.labels)
    samples = judge.measure_seeds(
        lambda s: decode(prior.sample(len(labels), labels, s), labels), labels
    )
    row = {key: samples[key] for key in ("fidelity", "ratio", "precision", "recall")}
    return {
        "shape": name, "seed": seed, **row,
        "reconstructions": judge.measure(reconstructed, test.labels)["ratio"],
        "error": float(np.square(reconstructed - images).mean()),
        "parameters": sum(p.numel() for p in model.decoder.parameters()),
        "epochs": config.epochs, "seconds": time.perf_counter() - began, "device": device,
    }  # fmt: skip


def measure_times(rounds: int) -> dict[str, float]:
    """Return the microseconds per image of each shape's decoder, for batches of 64, one thread."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    rng = np.random.default_rng(0)
    inputs = {
        "z": rng.standard_normal((BATCH, 16), np.float32),
        "label": np.arange(BATCH) % CLASSES,
    }
    work: dict[str, Work] = {}
    for name, shape in SHAPES.items():
        session = ort.InferenceSession(_exported(model_of(shape).eval()), options)
        work[name] = partial(session.run, None, inputs)
    times: dict[str, Times] = in_turns(work, rounds)
    return {name: found.median / BATCH * 1e6 for name, found in times.items()}


def _exported(model: CVAE) -> bytes:
    class Decode(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, z: Tensor, label: Tensor) -> Tensor:
            return self.model.decode(z, label)

    file, example = io.BytesIO(), (torch.zeros(BATCH, 16), torch.zeros(BATCH, dtype=torch.int64))
    program = torch.onnx.export(
        Decode().eval(), example, dynamo=True, input_names=["z", "label"], verbose=False
    )
    assert program is not None
    program.save(file)
    return file.getvalue()


def missing(
    rows: list[dict[str, Any]], names: list[str], seeds: list[int]
) -> Iterator[tuple[str, int]]:
    """Yield what was not trained yet, one seed of all shapes after the other."""
    done = {(row["shape"], row["seed"]) for row in rows}
    return ((name, seed) for seed in seeds for name in names if (name, seed) not in done)


def page(results: dict[str, Any]) -> str:
    """Render the table, the fastest shape first."""
    lines = [
        "# Shapes of the decoder", "",
        "Written by `python -m tests.quality.shapes`; trained on {trained}, timed on {timed}. "
        "[Optimisations](optimisations.md#shapes-of-the-decoder) explains the table.".format(
            trained=results.get("trained", "–"), timed=results.get("timed", "–")), "",
        "| shape | parameters | µs per image | epochs | seeds | fidelity | "
        "Fréchet distance, floors | precision | recall | of reconstructions, floors | "
        "squared error |",
        "| --- |" + " --- |" * 10,
    ]  # fmt: skip
    times = results.get("times", {})
    for name in sorted(SHAPES, key=lambda name: times.get(name, 0)):
        rows = [row for row in results["rows"] if row["shape"] == name]
        if not rows:
            continue
        means = {key: float(np.mean([row[key] for row in rows])) for key in MEASURED}
        lines.append(
            f"| {name} | {rows[0]['parameters']:,} | {times.get(name, float('nan')):.0f} | "
            f"{rows[0]['epochs']} | {len(rows)} | {means['fidelity']:.4f} | {means['ratio']:.2f} | "
            f"{means['precision']:.3f} | {means['recall']:.3f} | {means['reconstructions']:.2f} | "
            f"{means['error']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train and judge, or time; then write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["train", "time"])
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--classifier", type=Path, default=Path("classifier.pt"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    chosen = parser.parse_args()
    path = chosen.out / "shapes-results.json"
    results = json.loads(path.read_text()) if path.exists() else {"rows": []}
    today = datetime.now(UTC).date().isoformat()

    def save() -> None:
        path.write_text(json.dumps(results, indent=1) + "\n")
        (chosen.out / "shapes-results.md").write_text(page(results))

    if chosen.what == "time":
        results |= {"times": measure_times(chosen.rounds), "timed": today}
        save()
        return
    todo = list(missing(results["rows"], chosen.shapes, chosen.seeds))
    load_or_train(chosen.data, chosen.classifier)
    run: Callable[..., Any] = partial(
        train, data=chosen.data, classifier=chosen.classifier, device=chosen.device,
        epochs=chosen.epochs,
    )  # fmt: skip
    with ProcessPoolExecutor(chosen.jobs, mp_context=get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, name, seed) for name, seed in todo]):
            results["rows"].append(done.result())
            results["trained"] = today
            print(json.dumps(done.result()), flush=True)
            save()


if __name__ == "__main__":
    main()
