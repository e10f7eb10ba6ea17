"""The training loop: determinism, coverage of the data, reports and evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vae_models import build, preset
from vae_train import TrainConfig
from vae_train.data import BatchMaker, Images
from vae_train.loop import Step, evaluate, fit
from vae_train.objective import Batch
from vae_train.state import Epoch

SHAPE = (1, 6, 6)
CPU = torch.device("cpu")
Weights = dict[str, Tensor]


def images(n: int = 50, classes: int = 3) -> Images:
    """Noisy images with a bright band whose position is the class."""
    rng = np.random.default_rng(0)
    labels = torch.arange(n) % classes
    pixels = torch.from_numpy(rng.integers(0, 60, (n, *SHAPE))).to(torch.uint8)
    for k in range(classes):
        pixels[labels == k, :, 2 * k : 2 * k + 2] += 150
    return Images(pixels, labels)


def model(family: Any, seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    changes = {"backbone": "mlp", "hidden": (16,), "latent_dim": 3} | changes
    return build(preset("default", family, SHAPE, 3, **changes))


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "batch_size": 16, "validation": 0.0} | changes))


def trained(family: Any, **changes: Any) -> tuple[Weights, list[Epoch]]:
    made = model(family)
    history = fit(made, images(), None, config(**changes)).history
    return made.state_dict(), history


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """Return a list to which each batch is added when it is made."""
    made: list[Batch] = []
    plain = BatchMaker.make

    def make(self: BatchMaker, *arguments: Any) -> Batch:
        made.append(plain(self, *arguments))
        return made[-1]

    monkeypatch.setattr(BatchMaker, "make", make)
    return made


def equal(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(family: Any, schedule: str) -> None:
    dropout = 0.5 if family == "cvae" else 0.0
    runs = [trained(family, schedule=schedule, label_dropout=dropout, seed=4) for _ in range(2)]
    assert equal(runs[0][0], runs[1][0])
    other, _ = trained(family, schedule=schedule, label_dropout=dropout, seed=5)
    assert not equal(runs[0][0], other)


@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
@pytest.mark.parametrize("objective", ["bce", "mse"])
def test_the_loss_goes_down(family: Any, objective: str) -> None:
    history = trained(family, epochs=12, learning_rate=0.01, objective=objective)[1]
    assert history[-1].loss < 0.9 * history[0].loss


@pytest.mark.parametrize("backbone", ["mlp", "conv"])
def test_bf16_gives_almost_the_same_losses_and_keeps_float32_weights(backbone: str) -> None:
    losses = []
    for precision in ("float32", "bf16"):
        made = model("cvae", backbone=backbone, hidden=(16,))
        history = fit(made, images(), None, config(precision=precision, epochs=3)).history
        assert {p.dtype for p in made.parameters()} == {torch.float32}
        losses.append([epoch.loss for epoch in history])
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert losses[0] != losses[1]  # the precision has an effect


def test_steps_and_epochs_are_reported() -> None:
    steps: list[Step] = []
    epochs: list[Epoch] = []
    data = images(50)
    history = fit(
        model("vae"), data, images(10), config(beta=2), steps.append, epochs.append
    ).history
    assert history == epochs
    assert [(s.epoch, s.step, s.steps) for s in steps] == [
        (e, s, 4) for e in (1, 2) for s in (1, 2, 3, 4)
    ]
    assert all(s.images_per_second > 0 for s in steps)
    for epoch in history:
        own = [s for s in steps if s.epoch == epoch.epoch]
        sizes = [16, 16, 16, 2]  # the last batch is smaller and has less weight
        for name in ("loss", "reconstruction", "kl"):
            values = [getattr(s, name) for s in own]
            assert getattr(epoch, name) == pytest.approx(np.average(values, weights=sizes))
        assert epoch.loss == pytest.approx(epoch.reconstruction + 2 * epoch.kl, rel=1e-5)
        validation = epoch.validation_reconstruction + 2 * epoch.validation_kl
        assert epoch.validation_loss == pytest.approx(validation, rel=1e-5)


def test_without_validation_data_there_are_no_validation_losses() -> None:
    (epoch,) = trained("ae", epochs=1)[1]
    assert epoch.validation_loss is epoch.validation_reconstruction is epoch.validation_kl is None
    assert epoch.kl == 0


def test_every_image_is_seen_once_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(37)
    data.pixels[:, 0, 0, 0] = torch.arange(37)  # each image contains its index
    made = watched(monkeypatch)
    fit(model("ae"), data, None, config(epochs=2))
    seen = [(batch.image[:, 0, 0, 0] * 255).round() for batch in made]
    first, second = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert torch.equal(first.sort().values, torch.arange(37.0))
    assert torch.equal(second.sort().values, torch.arange(37.0))
    assert not torch.equal(first, second)  # shuffled again


def test_validation_does_not_affect_training() -> None:
    a, b = model("cvae"), model("cvae")
    fit(a, images(), None, config(label_dropout=0.3))
    fit(b, images(), images(9), config(label_dropout=0.3))
    assert equal(a.state_dict(), b.state_dict())


def test_evaluate_is_repeatable_and_does_not_change_the_weights() -> None:
    made = model("vae")
    before = {name: p.clone() for name, p in made.state_dict().items()}
    first = evaluate(made, images(), config())
    assert evaluate(made, images(), config()) == first
    assert equal(made.state_dict(), before)
    assert evaluate(made, images(), config(seed=1)) != first  # other latents are sampled
    assert not made.training


def test_evaluate_averages_over_images_not_over_batches() -> None:
    data = images(300)  # one batch of 256, one of 44
    made = model("ae")
    total, error, kl = evaluate(made, data, config(objective="mse"))
    with torch.no_grad():
        image = data.pixels.float() / 255
        expected = (made(image).logits.sigmoid() - image).square().sum((1, 2, 3)).mean()
    assert total == error == pytest.approx(expected.item(), rel=1e-5)
    assert kl == 0
