"""Each finding on a trained model that has the problem, and on one that has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vae_models import preset
from vae_runtime.datasets import Dataset, load_dataset
from vae_train import Epoch, TrainConfig
from vae_train.report import Finding, TrainedModel, find_problems, measure
from vae_train.run import train_model

from .test_run import Watch

pytestmark = pytest.mark.slow


def digits(split: str) -> Dataset:
    return load_dataset("digits", split)


def squares(split: str, n: int = 600) -> Dataset:
    """A soft square whose position is all that varies: two factors."""
    rng = np.random.default_rng(split == "test")
    y, x = np.mgrid[:8, :8]
    centre = rng.uniform(2, 5, (n, 2, 1, 1))
    distance = np.maximum(abs(y - centre[:, 0]), abs(x - centre[:, 1]))
    pixels = (255 * np.clip(3 - distance, 0, 1)).astype(np.uint8)[:, None]
    return Dataset("squares", pixels, np.zeros(n, np.int64), ("square",))


def noise(split: str) -> Dataset:
    """Random pixels: whatever is learned of the training images is memorized."""
    rng = np.random.default_rng(split == "test")
    return Dataset("noise", rng.integers(0, 256, (64, 1, 8, 8), np.uint8))


def problems(
    data: Callable[[str], Dataset] = digits, family: Any = "vae", **options: Any
) -> dict[str, Finding]:
    """Train a small model; return the findings by their code."""
    names = ("latent_dim", "hidden", "encoder_join", "null_label", "relu_code")
    given = {name: options.pop(name) for name in names if name in options}
    prior, held_out = options.pop("prior", "auto"), options.pop("held_out", True)
    training, test = data("train"), data("test") if held_out else None
    config = preset(
        "default", family, (1, 8, 8), len(training.classes), backbone="mlp",
        **{"hidden": (64, 32), "latent_dim": 4} | given,
    )  # fmt: skip
    plain = {"objective": "gaussian", "epochs": 25, "batch_size": 32, "validation": 0.1}
    history: list[Epoch] = []
    checkpoint = train_model(
        training, config, TrainConfig(**(plain | options)), test=test, prior=prior,
        callbacks=[Watch(on_epoch=history.append)],
    )  # fmt: skip
    trained = TrainedModel.from_run(checkpoint, history, training, test)
    return {f.code: f for f in find_problems(measure(trained), trained)}


@pytest.mark.parametrize(
    ("code", "ill", "well", "advice"),
    [
        (
            "posterior_collapse",
            {"beta": 500.0},
            {"beta": 1.0},
            "a --beta below 500.",
        ),
        (
            "nothing_learned",
            {"family": "ae", "objective": "mse", "learning_rate": 3.0, "schedule": "constant"},
            {"family": "ae", "objective": "mse"},
            "a smaller --learning-rate than 3, such as 0.003.",
        ),
        (
            "inactive_units",
            {"data": squares, "latent_dim": 8, "beta": 4.0, "epochs": 60},
            {"data": squares, "latent_dim": 2, "beta": 4.0, "epochs": 60},
            "a lower --beta for more detail, or --latent-dim 2 for a smaller model.",
        ),
        (
            "worse_than_pca",
            {"epochs": 7},
            {"epochs": 25},
            "more --epochs: the model was trained for only 295 steps.",
        ),
        (
            "few_dimensions",
            {"latent_dim": 2, "epochs": 60, "batch_size": 16},
            {"latent_dim": 12, "epochs": 60, "batch_size": 16},
            "a larger --latent-dim, such as 8.",
        ),
        (
            "label_in_latents",
            {"family": "cvae", "prior": "normal", "beta": 0.1, "encoder_join": "none"},
            {"family": "cvae", "prior": "normal", "beta": 2.0, "encoder_join": "film"},
            "--prior class_gmm, --encoder-join film, a higher --beta",
        ),
        (
            "overfit",
            {"data": noise, "epochs": 300, "hidden": (512, 256), "latent_dim": 32, "beta": 0.1},
            {"data": squares},
            "--patience 5 or fewer --epochs, more data",
        ),
        (
            "samples_off",
            {"family": "ae", "objective": "mse", "prior": "normal"},
            {"family": "ae", "objective": "mse", "prior": "gmm"},
            "--prior auto instead of normal.",
        ),
        (
            "nothing_held_out",
            {"held_out": False, "validation": 0.0},
            {"held_out": False, "validation": 0.1},
            "--validation 0.1, or a data set with a test split.",
        ),
    ],
)
def test_a_finding_is_reported_for_the_run_that_has_it(
    code: str, ill: dict[str, Any], well: dict[str, Any], advice: str
) -> None:
    found = problems(**ill)
    assert code in found, found
    assert advice in found[code].advice
    assert code not in problems(**well)


def test_few_images_are_a_note_as_long_as_the_loss_falls() -> None:
    found = problems(epochs=40)
    assert "overfit" not in found
    assert found["few_images"].level == "note"
    assert "few_images" not in problems(squares)
