"""The steps of the loop: learning rate, label dropout, data splits and errors."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.test_loop import CPU, config, images, model, watched
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError
from vae_train import loop
from vae_train.data import Images, split, to_device
from vae_train.loop import Step, fit
from vae_train.optimizer import Adam


def test_one_cycle_rises_to_its_peak_then_falls_to_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    monkeypatch.setattr(Adam, "step", lambda adam, gradients, rate: rates.append(rate))
    fit(model("ae"), images(64), None, config(epochs=25, learning_rate=0.01))  # 100 steps
    assert len(rates) == 100
    assert rates[0] == pytest.approx(0.01 / 25)
    assert max(rates) == pytest.approx(0.01, rel=1e-3)
    assert 12 <= int(np.argmax(rates)) <= 16
    assert rates[-1] < 1e-5
    assert all(a > b for a, b in pairwise(rates[20:]))


@pytest.mark.parametrize("steps", range(1, 9))
def test_one_cycle_accepts_any_number_of_steps(steps: int) -> None:
    history = fit(model("ae"), images(16 * steps), None, config(epochs=1)).history
    assert np.isfinite(history[0].loss)


def test_constant_keeps_the_learning_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: set[float] = set()

    monkeypatch.setattr(Adam, "step", lambda adam, gradients, rate: rates.add(rate))
    fit(model("ae"), images(), None, config(schedule="constant", learning_rate=0.002))
    assert rates == {0.002}


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.9])
def test_label_dropout_hides_the_given_fraction_of_labels(
    fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watched(monkeypatch)
    data = images(300)
    fit(model("cvae"), data, None, config(epochs=10, label_dropout=fraction, batch_size=300))
    labels = torch.stack([batch.label for batch in made if batch.label is not None])
    hidden = (labels == 3).float().mean().item()
    assert hidden == pytest.approx(fraction, abs=0.03)
    # Labels that are not hidden are unchanged: each class has 100 images.
    for k in range(3):
        assert (labels == k).float().mean().item() == pytest.approx((1 - fraction) / 3, abs=0.03)
    assert data.labels.max() == 2  # the data was not modified


def test_a_loss_that_is_not_finite_stops_training_at_once() -> None:
    steps: list[Step] = []
    with pytest.raises(UsageError, match=r"the loss at epoch 1, step 1, is (inf|nan).*learning"):
        fit(model("vae"), images(), None, config(beta=1e39), on_step=steps.append)
    assert not steps


def test_a_validation_loss_that_is_not_finite_stops_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "evaluate", lambda *_, **__: (math.nan, 1.0, 1.0))
    with pytest.raises(UsageError, match="the validation loss of epoch 1 is nan"):
        fit(model("vae"), images(), images(), config())


def test_a_signal_after_the_last_step_is_noticed() -> None:
    asked, saved = [0], []
    with pytest.raises(loop.Stopped):
        fit(
            model("vae"), images(), None, config(),
            on_epoch=lambda epoch: asked.__setitem__(0, 15 * (epoch.epoch == 2)),
            stop_signal=lambda: asked[0], save=lambda _, last: saved.append(last),
        )  # fmt: skip
    assert saved[-1]


def dataset(n: int) -> Dataset:
    pixels = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1)
    return Dataset("numbers", pixels, np.arange(n) % 4, ("a", "b", "c", "d"))


@pytest.mark.parametrize(("n", "fraction", "held"), [(100, 0.2, 20), (99, 0.05, 9), (7, 0.5, 4)])
def test_the_validation_split_is_disjoint_and_complete(n: int, fraction: float, held: int) -> None:
    training, validation = split(dataset(n), fraction, seed=3)
    a, b = training.images.ravel().tolist(), validation.images.ravel().tolist()
    assert len(b) == held
    assert sorted(a + b) == list(range(n))
    for part in (training, validation):  # labels stay with their images
        assert (part.labels == part.images.ravel() % 4).all()


def test_the_validation_split_is_determined_by_the_seed() -> None:
    a, b, c = (split(dataset(100), 0.2, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(a.images, b.images)
    assert not np.array_equal(a.images, c.images)


@pytest.mark.parametrize("fraction", [0.0, 0.001])
def test_a_fraction_near_zero_holds_nothing_out(fraction: float) -> None:
    data = dataset(100)
    assert split(data, fraction, 0) == (data, None)


def test_a_fraction_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UsageError, match=r"validation is 0\.99.*of 10 images"):
        split(dataset(10), 0.99, 0)


def test_labels_are_copied_only_for_models_that_read_them() -> None:
    data = dataset(8)
    assert to_device(data, CPU, labelled=False).labels is None
    labelled = to_device(data, CPU, labelled=True)
    assert labelled.labels.dtype == torch.int64
    labelled.pixels[0] = 99
    assert data.images[0, 0, 0, 0] == 0  # a copy


def test_batches_are_in_order_and_scaled_to_0_to_1() -> None:
    data = to_device(dataset(200), CPU, labelled=True)
    parts = list(data.batches(64))
    assert [len(image) for image, _ in parts] == [64, 64, 64, 8]
    whole = torch.cat([image for image, _ in parts]).ravel()
    torch.testing.assert_close(whole, torch.arange(200.0) / 255)
    assert data.pixels.dtype == torch.uint8


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_losses_on_cuda_equal_those_on_the_cpu(family: Any) -> None:
    losses = []
    for name in ("cpu", "cuda"):
        data = images()
        made = model(family).to(name)
        placed = Images(data.pixels.to(name), None if data.labels is None else data.labels.to(name))
        losses.append([e.loss for e in fit(made, placed, placed, config(epochs=3)).history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)  # CUDA draws other noise
