"""What features are worth, and `vae-run encode --probe`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from vae_runtime.cli import cli
from vae_runtime.errors import InputError, MissingExtra
from vae_runtime.probe import MAX_IMAGES, principal_components, probe

pytestmark = pytest.mark.torch_free
DATA = Path(__file__).parents[1] / "data"
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)


@needs_sklearn
def test_the_accuracy_is_that_of_the_information_in_the_features() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d"], 100)
    index = np.repeat(np.arange(4), 100)
    centres = np.eye(4)[index] * 8
    half = np.eye(2)[index // 2] * 8  # tells two pairs apart
    ring = np.stack([np.cos(index), np.sin(index)], axis=1)
    radius = ((index % 2) + 1)[:, None] * ring / np.linalg.norm(ring, axis=1, keepdims=True)
    found = probe(
        {
            "all": centres + rng.normal(size=(400, 4)),
            "pairs": half + rng.normal(size=(400, 2)),
            "none": rng.normal(size=(400, 3, 2)),
            "place": radius + rng.normal(0, 0.05, (400, 2)),
        },
        list(labels),
    )
    assert found["all"].linear > 0.99
    assert found["all"].neighbours > 0.99
    assert found["pairs"].linear == pytest.approx(0.5, abs=0.07)
    assert found["none"].neighbours == pytest.approx(0.25, abs=0.08)
    assert found["none"].dimensions == 6
    assert found["place"].neighbours > 0.99


@needs_sklearn
def test_many_rows_are_thinned_evenly_and_few_are_refused() -> None:
    n = 3 * MAX_IMAGES
    labels = np.repeat([0, 1], n // 2)
    assert probe({"x": labels[:, None]}, list(labels))["x"].linear == 1
    with pytest.raises(InputError, match="1 classes with at least 20 images each, expected two"):
        probe({"x": np.zeros((20, 1))}, ["a"] * 20)
    with pytest.raises(InputError, match="2 classes with at least 4 images each"):
        probe({"x": np.zeros((20, 1))}, ["a"] * 16 + ["b"] * 4)
    assert principal_components(np.eye(5)[:, None], 99).shape == (5, 5)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"needs sklearn, not installed here\. Run: pip"):
        probe({}, [])
    with pytest.raises(MissingExtra, match="principal components needs sklearn"):
        principal_components(np.zeros((2, 2)), 1)


@needs_sklearn
def test_the_command(tmp_path: Path) -> None:
    for k, name in enumerate(("dark", "light")):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for i in range(8):
            pixels = np.full((8, 8), 40 + 120 * k + 3 * i, np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    args = ["encode", str(tmp_path / "images"), "-b", str(DATA / "vae_mlp.zip"),
            "-o", str(tmp_path / "z.npz"), "--probe"]  # fmt: skip
    done = CliRunner().invoke(cli, [*args, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["probe"]
    assert found["pixels"] == {"dimensions": 64, "linear": 1, "neighbours": 1}
    assert found["latents"]["linear"] > 0.9
    assert found["PCA"]["dimensions"] == found["latents"]["dimensions"]
    done = CliRunner().invoke(cli, args)
    assert "pixels (64 numbers): labels predicted by a linear probe 1.000" in done.stderr
    one = str(tmp_path / "images" / "dark")
    done = CliRunner().invoke(cli, ["encode", one, *args[2:]])
    assert "have no labels" in done.output + str(done.exception)
