"""Find anomalies: one class against the rest, and defects of textures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import vae_runtime as vae
from tests.uses.textures import write_photographs
from tests.uses.training import trained
from vae_runtime.arrays import to_float32
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.detection import Detection, Normality, detect
from vae_runtime.detection.pictures import heat
from vae_runtime.detection.quality import measure_maps, measure_quality, read_masks
from vae_runtime.metrics import Codec
from vae_train import Checkpoint, load_checkpoint
from vae_train.run import codec_of

FALSE_ALARMS = 0.05


@dataclass(frozen=True)
class Row:
    """One detector: which data and seed, how well it ranks, and how its decisions come out.

    Attributes:
        data, normal, seed: the data set, the normal class, and the seed of the training.
        auroc: of the score.
        mse_auroc: of the plain squared error, to compare with.
        false_alarms: the part of normal test images above the threshold for `FALSE_ALARMS`.
        pixel_auroc, aupro: of the maps, where the data has masks.
    """

    data: str
    normal: str
    seed: int
    auroc: float
    mse_auroc: float
    false_alarms: float
    pixel_auroc: float | None = None
    aupro: float | None = None


def one_class(
    name: str, training: Dataset, test: Dataset, seeds: list[int], work: Path
) -> Iterator[Row]:
    """Train on one class at a time and search the test split for the others."""
    assert training.labels is not None
    assert test.labels is not None
    for seed in seeds:
        for label in training.classes:
            k = training.classes.index(label)
            own = training.take(np.flatnonzero(training.labels == k))
            data = Dataset(f"{name} {label}", np.ascontiguousarray(own.images))
            checkpoint = train_normal(data, work / f"{name}-{label}-{seed}.pt", seed)
            yield measure(checkpoint, test, test.labels != k, Row(name, label, seed, 0, 0, 0))


def textures(seeds: list[int], work: Path) -> Iterator[Row]:
    """Train on good photographs of a texture, and search for defects."""
    for seed in seeds:
        folder = work / f"textures-{seed}"
        if not folder.exists():
            write_photographs(folder, 300, 40, seed)
        test = load_dataset(folder, "test")
        assert test.labels is not None
        truth = np.array([test.classes[label] != "good" for label in test.labels])
        checkpoint = train_normal(load_dataset(folder, "train"), work / f"textures-{seed}.pt", seed)
        yield measure(checkpoint, test, truth, Row("textures", "good", seed, 0, 0, 0))


def draw(work: Path, path: Path) -> None:
    """Draw heat maps of twelve textures of seed 0 beside their images, the highest score first."""
    test = load_dataset(work / "textures-0", "test")
    found, _ = search(load_checkpoint(work / "textures-0.pt"), test)
    chosen = np.argsort(-found.scores)[np.linspace(0, len(test) - 1, 12).astype(int)]
    images = to_float32(np.asarray(test.images)[chosen])
    vae.save(np.concatenate([images, heat(images, found.maps[chosen])], axis=3), path, columns=4)


def train_normal(data: Dataset, path: Path, seed: int) -> Checkpoint:
    """Train with default options, but hold out more of few images."""
    options = {"validation": 0.2} if len(data) < 1000 else {}
    return trained("vae", data, path, seed, **options)


def search(checkpoint: Checkpoint, test: Dataset) -> tuple[Detection, Codec]:
    """Search the test images with the normality that the checkpoint holds."""
    normality = Normality.from_bytes(checkpoint.normality, "checkpoint")
    codec = codec_of(checkpoint.build(), torch.device("cpu"))
    return detect(test.images, codec, normality, FALSE_ALARMS), codec


def measure(checkpoint: Checkpoint, test: Dataset, truth: NDArray[np.bool_], row: Row) -> Row:
    """Measure how well a model finds the test images that are anomalous in truth."""
    found, codec = search(checkpoint, test)
    errors = np.concatenate([
        np.square(codec.decode(codec.encode(x, None)[0], None) - x).mean(axis=(1, 2, 3))
        for x in map(to_float32, test.batches(1000))
    ])  # fmt: skip
    masks = read_masks(test.files or (), truth, test.image_shape[1:]) if test.files else None
    maps = (None, None) if masks is None else measure_maps(found.maps, masks)
    return Row(
        row.data, row.normal, row.seed,
        measure_quality(found.scores, truth, found.threshold).auroc,
        measure_quality(errors, truth, 0).auroc, float(found.anomalous[~truth].mean()), *maps,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    """Render the results: means per data set, then each model."""
    lines = []
    for name in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == name]
        mean = {
            k: np.mean([getattr(r, k) for r in own]) for k in ("auroc", "mse_auroc", "false_alarms")
        }
        pixels = [(r.pixel_auroc, r.aupro) for r in own if r.pixel_auroc is not None]
        maps = [f"{value:.3f}" for value in np.mean(pixels, axis=0)] if pixels else ["–", "–"]
        seeds = len({row.seed for row in own})
        lines.append(
            f"| {name} | {len(own)} | {seeds} | {mean['auroc']:.3f} | {mean['mse_auroc']:.3f} | "
            f"{mean['false_alarms']:.1%} | {' | '.join(maps)} |"
        )
    each = [
        f"| {r.data} | {r.normal} | {r.seed} | {r.auroc:.3f} | {r.mse_auroc:.3f} | "
        f"{r.false_alarms:.1%} |"
        for r in rows
    ]
    head = (
        "data | models | seeds | AUROC | of squared error | "
        f"false alarms, {FALSE_ALARMS:.0%} asked | AUROC of pixels | AUPRO"
    )
    return "\n".join([
        f"| {head} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", *lines,
        "", "Each model:", "",
        "| data | normal | seed | AUROC | of squared error | false alarms |",
        "| --- | --- | ---: | ---: | ---: | ---: |", *each,
    ])  # fmt: skip
