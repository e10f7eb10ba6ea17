"""Compare every graph of every family, preset and backbone with torch, on real images.

The exporter has its own parity check. These tests call the model's methods, not the modules that
were traced, and their bound is absolute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vae_export import export_checkpoint
from vae_export.pipeline import Exported
from vae_models import CVAE, preset
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.inference.session import Session
from vae_train import Checkpoint
from vae_train.config import recipe
from vae_train.run import train_model

BOUND = 1e-5
BATCHES = (0, 1, 2, 7, 64, 1000)
MODELS = [
    f"{family}-{kind}"
    for family in ("ae", "vae", "cvae")
    for kind in ("reference", "default-conv", "default-mlp")
]


@dataclass(frozen=True)
class Case:
    checkpoint: Checkpoint
    exported: Exported
    test: Dataset


@pytest.fixture(scope="session")
def case_of(mnist_or_none: Path | None) -> Any:
    @cache
    def make(name: str) -> Case:
        family, _, kind = name.partition("-")
        preset_name, _, backbone = kind.partition("-")
        source = mnist_or_none or "digits"
        data, test = load_dataset(source), load_dataset(source, "test")
        shape = data.image_shape
        config = preset(preset_name, family, shape, 10, backbone=backbone or None)  # type: ignore[arg-type]
        how = recipe(preset_name, family, config.pixels, epochs=1)
        count = 640 if config.backbone == "conv" else 1400
        trained = train_model(data.take(slice(0, count)), config, how, components=1, device="cpu")
        return Case(trained, export_checkpoint(trained, None, data=test), test)

    return make


def rows_of(case: Case, batch: int) -> dict[str, NDArray[Any]]:
    """Make real images, latents at 0, ±6 sigma or sampled, and labels that cycle through 0 to K."""
    prior = case.checkpoint.prior
    classes = case.checkpoint.model.classes
    label = np.arange(batch, dtype=np.int64) % (classes + 1)
    mean, std = prior.spread()
    z = prior.sample(batch, label if prior.kind == "class_gmm" else None, seed=3)
    for row, sigma in enumerate((0, 6, -6)):
        for start in range(row, batch, 9):
            z[start] = mean * bool(sigma) + sigma * std
    noise = np.random.default_rng(4).standard_normal((batch, z.shape[1] + 1)).astype(np.float32)
    images = np.resize(case.test.images, (batch, *case.test.image_shape))
    return {
        "image": images.astype(np.float32) / np.float32(255),
        "z": z,
        "label": label,
        "noise": noise,
    }


@torch.no_grad()
def by_torch(case: Case, role: str, rows: dict[str, NDArray[Any]]) -> Iterator[NDArray[Any]]:
    model = case.checkpoint.build()
    if role == "sampler":
        per_class = case.checkpoint.prior.kind == "class_gmm"
        prior_label = rows["label"] if per_class else None
        rows = rows | {"z": case.checkpoint.prior.transform(rows["noise"], prior_label)}
    image, z, label = (torch.from_numpy(rows[name]) for name in ("image", "z", "label"))
    if role == "encoder":
        found = model.encode(image, label) if isinstance(model, CVAE) else model.encode(image)
        yield from (t.numpy() for t in (found if isinstance(found, tuple) else (found,)))
    elif role == "decoder" or not isinstance(model, CVAE):
        yield model.decode(z).numpy()
    else:
        yield model.decode(z, label).numpy()
    if role == "sampler":
        yield z.numpy()


@pytest.mark.parametrize("name", MODELS)
def test_graphs_compute_what_torch_computes(case_of: Any, name: str) -> None:
    case: Case = case_of(name)
    for graph in case.exported.manifest.graphs:
        outputs = [t.name for t in graph.outputs]
        with Session(case.exported.files[graph.file.file], device="cpu") as session:
            for batch in BATCHES:
                rows = rows_of(case, batch)
                found = session.run(outputs, **{t.name: rows[t.name] for t in graph.inputs})
                for ours, theirs in zip(found, by_torch(case, graph.role, rows), strict=True):
                    assert ours.shape == theirs.shape
                    assert np.isfinite(ours).all()
                    assert np.abs(ours - theirs).max(initial=0) <= BOUND


@pytest.mark.parametrize("name", MODELS)
def test_the_manifest_reports_differences_within_the_bound(case_of: Any, name: str) -> None:
    found = case_of(name).exported.manifest.parity["max_abs_difference_from_torch_float32"]
    assert max(found.values()) <= BOUND
