"""`score` uses the standard deviation that was learned in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from vae_export import export_checkpoint
from vae_runtime.datasets import load_dataset
from vae_runtime.metrics import kl_to_standard_normal, negative_log_likelihood
from vae_train import TrainConfig


def test_score_uses_the_sigma_of_the_checkpoint(checkpoint_of: Any, tmp_path: Path) -> None:
    trained = checkpoint_of("vae-mlp")
    checkpoint = replace(trained, train=TrainConfig(objective="gaussian"), sigma=0.2)
    export_checkpoint(checkpoint, tmp_path / "vae")
    images = load_dataset("digits", "test").images[:5]
    with vae.load(tmp_path / "vae") as model:
        assert (model.spec.likelihood, model.spec.sigma) == ("gaussian", 0.2)
        found = model.score(images, samples=200)
        mu, log_var = model.posterior(images.astype(np.float32) / 255, None)
        assert log_var is not None
        latents = mu + np.exp(log_var / 2) * np.random.default_rng(0).normal(size=(200, *mu.shape))
        expected = np.mean(
            [
                negative_log_likelihood(
                    model.decode(z.astype(np.float32)), images.astype(np.float32) / 255,
                    "gaussian", 0.2,
                )
                for z in latents
            ],
            axis=0,
        )  # fmt: skip
        kl = kl_to_standard_normal(mu, log_var)
    assert found.negative_elbo == pytest.approx(expected + kl, abs=1.0)  # from other samples
    assert "sigma" not in export_checkpoint(trained, None).manifest.spec.to_json()
