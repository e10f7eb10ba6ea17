"""Bundles that learn from images what is normal, `--normal`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vae_runtime
from tests.export.conftest import run_cli
from tests.export.custom_modules import Upsampler
from vae_export import export, export_checkpoint
from vae_runtime.datasets import load_dataset
from vae_runtime.errors import InputError
from vae_train.checkpoint import save_checkpoint


def test_a_custom_module_learns_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    digits = load_dataset("digits")
    normal = digits.images[400:500]
    out = tmp_path / "own.zip"
    export(Upsampler(), out, digits.take(slice(0, 400)), normal=normal)
    with vae_runtime.load(out, device="cpu") as model:
        assert model.normality is not None
        assert model.normality.held_out == 50
        expected = model.learn_normality(normal)  # the same 50 images again, now all held out
        assert expected.held_out == 100
        found = model.detect(np.concatenate([normal, 255 - normal])).anomalous
        assert found[:100].mean() <= 0.08
        assert found[100:].mean() > 0.5  # although the module was never trained


def test_too_few_images_write_nothing(tmp_path: Path) -> None:
    digits = load_dataset("digits").take(slice(0, 400))
    with pytest.raises(InputError, match=r"^39 normal images, expected 40 or more"):
        export(Upsampler(), tmp_path / "own.zip", digits, normal=digits.images[:39])
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_learns_it_from_new_images(checkpoint_of: Callable[[str], Any]) -> None:
    checkpoint = checkpoint_of("vae-mlp")
    images = load_dataset("digits").images[:60]
    exported = export_checkpoint(checkpoint, None, normal=images)
    assert exported.manifest.normality is not None
    assert exported.manifest.normality.bytes == len(exported.files["normality.npz"])


def test_only_the_classes_that_are_normal_count(
    checkpoint_of: Callable[[str], Any], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for kind, n in {"good": 44, "hole": 7}.items():
        (tmp_path / "parts" / kind).mkdir(parents=True)
        for i in range(n):
            pixels = rng.integers(90, 110, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "parts" / kind / f"{i}.png")
    ckpt, out = tmp_path / "vae.pt", tmp_path / "vae.zip"
    save_checkpoint(checkpoint_of("vae-mlp"), ckpt)
    done = run_cli("--ckpt", ckpt, "--normal", tmp_path / "parts", "--zip", "--no-sampler")
    assert done.exception is None, done.exception
    assert "normality: learned from 44 images" in done.output
    with vae_runtime.load(out, device="cpu") as model:
        assert model.normality is not None
