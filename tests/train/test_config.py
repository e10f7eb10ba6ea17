"""The training config: ranges, and the recipe that belongs to each preset."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vae_runtime.errors import UsageError
from vae_train import TrainConfig
from vae_train.config import recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "l1"},
        {"schedule": "cosine"},
        {"precision": "fp16"},
        {"beta": -1},
        {"beta": float("nan")},
        {"beta": float("inf")},
        {"epochs": 0},
        {"epochs": 1.5},
        {"epochs": True},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": 10},
        {"adam_eps": -1e-8},
        {"gradient_clip": -0.5},
        {"gradient_clip": 1.0},
        {"label_dropout": 1},
        {"label_dropout": -0.1},
        {"guidance": -1},
        {"guidance": 10},
        {"contrast": 0.0},
        {"contrast": 10},
        {"prior_spread": -0.1},
        {"prior_spread": 1.0001},
        {"importance_epochs": -1},
        {"validation": 1},
        {"seed": -1},
        {"seed": 2**63},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"^{name} is .*expected"):
        TrainConfig(**wrong)


def test_an_integer_is_accepted_as_a_float() -> None:
    assert TrainConfig(beta=2, validation=0, label_dropout=0).beta == 2


def test_free_bits_and_importance_samples_exclude_each_other() -> None:
    assert TrainConfig(free_bits=0.5).importance_samples == 1
    assert TrainConfig(importance_samples=2).free_bits == 0
    with pytest.raises(UsageError, match=r"^free_bits is 0\.5 with 2 importance_samples: "):
        TrainConfig(free_bits=0.5, importance_samples=2)


def test_the_final_epochs_may_draw_more_samples() -> None:
    config = TrainConfig(epochs=5, importance_samples=4, importance_epochs=2)
    drawn = [config.for_epoch(epoch).importance_samples for epoch in range(1, 6)]
    assert drawn == [1, 1, 1, 4, 4]
    assert replace(config, importance_epochs=0).for_epoch(1).importance_samples == 4
    assert replace(config, importance_epochs=5).for_epoch(1) == replace(config, importance_epochs=5)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"importance_samples": 1},
            "^importance_epochs is 2 with 5 epochs and .* 1, expected",
        ),
        ({"importance_epochs": 6}, "^importance_epochs is 6 with 5 epochs and .* 4, expected"),
        ({"patience": 1, "validation": 0.1}, "^patience is 1 with importance_epochs 2: "),
    ],
)
def test_inconsistent_importance_epochs_are_refused(wrong: dict[str, Any], text: str) -> None:
    sound: dict[str, Any] = {"epochs": 5, "importance_samples": 4, "importance_epochs": 2}
    with pytest.raises(UsageError, match=text):
        TrainConfig(**sound | wrong)


def test_a_config_round_trips_through_a_dictionary() -> None:
    config = TrainConfig(objective="mse", beta=3, seed=7, precision="bf16")
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_a_dictionary_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(UsageError, match="warmup"):
        TrainConfig.from_dict({"warmup": 3})


@pytest.mark.parametrize(
    ("family", "objective", "eps"), [("ae", "mse", 784e-8), ("vae", "bce", 1e-8)]
)
def test_the_reference_recipe(family: str, objective: str, eps: float) -> None:
    config = recipe("reference", family, 784)
    assert (config.objective, config.beta, config.epochs) == (objective, 1, 10)
    assert (config.batch_size, config.learning_rate, config.schedule) == (32, 1e-3, "constant")
    assert (config.validation, config.label_dropout) == (0, 0)
    assert config.adam_eps == pytest.approx(eps)


def test_the_other_objective_of_the_reference_recipe() -> None:
    config = recipe("reference", "vae", 784, objective="mse", beta=3)
    assert (config.objective, config.beta) == ("mse", 3)


@pytest.mark.parametrize(
    ("family", "dropout", "objective"), [("ae", 0, "mse"), ("vae", 0, "bce"), ("cvae", 0.1, "bce")]
)
def test_the_default_recipe(family: str, dropout: float, objective: str) -> None:
    config = recipe("default", family, 784)
    assert (config.label_dropout, config.objective) == (dropout, objective)
    assert config.schedule == "one_cycle"
    assert (config.beta, config.epochs) == (0.5 if family == "cvae" else 1, 16)
    assert config.guidance == (1.3 if family == "cvae" else 1)
    assert config.contrast == (1.2 if family == "cvae" else 1)
    grey = recipe("default", family, 784, objective="gaussian")
    assert grey.contrast == 1  # grey levels are not ink
    assert (grey.gradient_clip, config.gradient_clip) == (2, 0)
    assert recipe("reference", family, 784, objective="gaussian").gradient_clip == 0
    assert config.prior_spread == (0.5 if family == "cvae" else 0.75)
    assert recipe("reference", family, 784).prior_spread == config.prior_spread
    assert recipe("best", family, 784) == replace(config, epochs=30)


def test_guidance_needs_label_dropout() -> None:
    assert recipe("default", "cvae", 784, label_dropout=0.0).guidance == 1
    assert recipe("default", "cvae", 784, label_dropout=0.2).guidance == 1.3
    assert recipe("default", "cvae", 784, guidance=2.0).guidance == 2
    with pytest.raises(UsageError, match=r"^guidance is 2.0 with label_dropout 0: "):
        recipe("default", "cvae", 784, label_dropout=0.0, guidance=2.0)
    with pytest.raises(UsageError, match=r"^guidance is 1.1 with label_dropout 0: "):
        recipe("reference", "cvae", 784, guidance=1.1)


def test_overrides_of_none_keep_the_recipe() -> None:
    assert recipe("default", "vae", 9, beta=None, seed=None) == recipe("default", "vae", 9)
    assert recipe("default", "vae", 9, beta=2.0).beta == 2


@pytest.mark.parametrize(
    ("images", "batch_size", "rate", "epochs"),
    [
        (60_000, 128, 3e-3, 16),
        (6_000, 128, 3e-3, 32),
        (4_999, 64, 3e-3 / 2**0.5, 19),
        (1_500, 32, 1.5e-3, 32),
        (40, 32, 1.5e-3, 400),
    ],
)
def test_small_data_sets_get_more_epochs_of_smaller_batches(
    images: int, batch_size: int, rate: float, epochs: int
) -> None:
    config = recipe("default", "vae", 784, images=images)
    assert (config.batch_size, config.epochs) == (batch_size, epochs)
    assert config.learning_rate == pytest.approx(rate)
    assert recipe("reference", "vae", 784, images=images) == recipe("reference", "vae", 784)


def test_epochs_follow_from_a_given_batch_size_and_can_be_given() -> None:
    config = recipe("default", "vae", 784, images=1_500, batch_size=128)
    assert (config.epochs, config.learning_rate) == (125, 3e-3)
    assert recipe("best", "vae", 784, images=1_500).epochs == 64
    assert recipe("default", "vae", 784, images=1_500, epochs=3).epochs == 3
