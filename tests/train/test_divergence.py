"""A loss that rises far above where it was stops training; the best model before that is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.train.test_cli import invoke, refused
from vae_train import Diverged, TrainConfig, load_checkpoint, train
from vae_train.state import Trend

from .test_run import dataset, model, train_model


def diverged_after(losses: list[float], scale: float | None = None) -> int | None:
    """The number of losses after which a trend has diverged."""
    trend = Trend()
    return next((n for n, loss in enumerate(losses, 1) if trend.add(loss, scale)), None)


def falling(top: float, bottom: float, steps: int = 400) -> list[float]:
    rng = np.random.default_rng(0)
    curve = bottom + (top - bottom) * np.exp(-np.arange(steps) / 50)
    return list(curve * rng.uniform(0.9, 1.1, steps))


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        (falling(543, 100), None),
        ([*falling(543, 100), *[120.0] * 500], None),  # a moderate rise, as under a high rate
        ([*falling(543, 100), 1e9, 9e6, *[100.0] * 9, 1e5, 1e5, *[100.0] * 99], None),  # spikes
        ([44.0, 500.0, 90.0, 80.0, *[40.0] * 50], None),  # a KL that is high at first
        ([*falling(200, 1e-6), *[1e-3] * 100], None),  # almost no loss: relative rises are noise
        ([*falling(100, -800), *[-700.0] * 500], 392.0),  # a log density
        ([0.0] * 100, None),
    ],
)
def test_a_falling_noisy_or_spiky_loss_has_not_diverged(
    losses: list[float], scale: float | None
) -> None:
    assert diverged_after(losses, scale) is None


@pytest.mark.parametrize(
    ("losses", "scale", "first", "last"),
    [
        ([*falling(543, 100), *[206.0] * 99], None, 410, 460),  # back to the mean image
        ([*falling(181, 8), *[52.0] * 99], None, 403, 430),  # the same for squared errors
        ([*falling(100, -800), *[-100.0] * 99], 392.0, 405, 430),
        ([44.0, *[1e6] * 99], None, 10, 20),  # from the start
    ],
)
def test_a_loss_far_above_where_it_was_has_diverged(
    losses: list[float], scale: float | None, first: int, last: int
) -> None:
    after = diverged_after(losses, scale)
    assert after is not None
    assert first <= after <= last


def test_while_the_weight_of_the_kl_rises_only_the_first_loss_counts() -> None:
    trend = Trend()
    rising = [50.0, *np.linspace(10, 70, 500)]
    assert not any(trend.add(float(loss), None, falling=False) for loss in rising)
    assert trend.lowest == 50


FAST = {"learning_rate": 3.0, "schedule": "constant", "batch_size": 8, "validation": 0.1}


def test_training_stops_within_the_first_epoch_and_names_the_learning_rate() -> None:
    config = TrainConfig(epochs=50, **FAST)
    with pytest.raises(Diverged, match=r"diverged: the loss at epoch \d, .*rate \(3\)"):
        train_model(dataset(400), model("vae"), config)


SLOW_START = ("--schedule", "one_cycle", "--lr", "0.3", "--epochs", "40", "--batch-size", "32")
COMMAND = ("vae", "--data", "digits", "--hidden", "16", "--backbone", "conv", "--latent-dim", "4")


@pytest.mark.slow
def test_the_best_model_before_is_kept_and_the_finished_one_is_not_touched(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "model.pt", tmp_path / "model.run" / "last_good.pt"
    quick = ("--epochs", "1", "--no-report", "-q", "--components", "1")
    assert invoke(*COMMAND, *quick, "--out", out).exit_code == 0
    before = out.read_bytes()
    rest = ("--components", "1", "-q", "--no-report", "--out", out)
    code, line = refused(capfd, *COMMAND, *SLOW_START, *rest, "--force")
    assert code == 2
    assert "training diverged: the loss at epoch" in line
    assert "Lower the learning rate (0.3), for example to 0.003." in line
    assert f"is kept in {kept}." in line
    assert out.read_bytes() == before
    checkpoint = load_checkpoint(kept)
    best = checkpoint.metadata["best_epoch"]
    assert f"The model of epoch {best} is kept" in line
    assert best <= checkpoint.metadata["epochs"]
    assert np.isfinite(checkpoint.prior.sample(4, seed=0)).all()
    # Nothing is left to resume, and a lower rate needs no --force where no model was finished.
    assert not (tmp_path / "model.run" / "state.pt").exists()
    out.unlink()
    assert invoke(*COMMAND, *quick, "--out", out).exit_code == 0
    assert not kept.exists()


@pytest.mark.slow
def test_the_error_has_the_checkpoint_if_no_files_are_written() -> None:
    with pytest.raises(Diverged) as error:
        train(
            "vae", "digits", learning_rate=0.3, epochs=40, batch_size=32, hidden=(16,),
            latent_dim=4, components=1,
        )  # fmt: skip
    assert error.value.checkpoint is not None
    assert error.value.checkpoint.metadata["best_epoch"] >= 1
