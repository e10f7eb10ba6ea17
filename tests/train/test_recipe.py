"""Check the effect of each training option against independently known numbers."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_models import AE, VAE, build, preset
from vae_runtime.errors import UsageError
from vae_train import TrainConfig
from vae_train.data import BatchMaker, Images
from vae_train.device import pick_precision
from vae_train.distributed import ProcessGroup
from vae_train.loop import evaluate, fit, kl_weight, learning_rate, out_of_patience
from vae_train.state import Epoch, State, best_epoch

SHAPE, PIXELS, D = (1, 5, 6), 30, 3


def images(n: int = 512) -> Images:
    """Images near 0.5, where the sigmoid is almost linear: three strong directions and noise."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(PIXELS, D)))[0] * [60, 45, 30]
    pixels = 128 + rng.normal(size=(n, D)) @ directions.T + rng.normal(0, 3, (n, PIXELS))
    whole = torch.from_numpy(pixels.round().clip(0, 255)).to(torch.uint8)
    return Images(whole.view(n, *SHAPE), None)


def model(family: Any, **changes: Any) -> Any:
    torch.manual_seed(0)
    changes = {"backbone": "mlp", "hidden": (16,), "latent_dim": D} | changes
    return build(preset("default", family, SHAPE, **changes))


def linear(family: Any) -> AE | VAE:
    """A model with a single linear layer in both encoder and decoder."""
    made: AE | VAE = model(family, hidden=(PIXELS,))
    made.encoder = nn.Flatten()  # type: ignore[assignment]
    made.decoder = nn.Sequential(nn.Linear(D, PIXELS), nn.Unflatten(1, SHAPE))  # type: ignore[assignment]
    return made


def principal(data: Images) -> tuple[float, NDArray[np.float64]]:
    """The squared error of PCA, summed over pixels, and its directions, f64[D, PIXELS]."""
    x = data.pixels.flatten(1).double().numpy() / 255
    values, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)[1:]
    return float((values[D:] ** 2).sum() / len(x)), directions[:D]


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "batch_size": 64, "validation": 0.0} | changes))


LONG = {"epochs": 100, "learning_rate": 0.02}


def test_a_linear_autoencoder_reaches_the_error_of_pca() -> None:
    data = images()
    made = linear("ae")
    fit(made, data, None, config(objective="mse", **LONG | {"epochs": 160}))
    error = evaluate(made, data, config(objective="mse"))[0]
    expected, _ = principal(data)
    assert 0.98 * expected < error < 1.05 * expected


def test_a_linear_vae_finds_the_subspace_of_probabilistic_pca_and_its_sigma() -> None:
    """Lucas et al. 2019: the optimum of a linear VAE is that of probabilistic PCA."""
    data = images()
    made = linear("vae")
    state = fit(made, data, None, config(objective="gaussian", **LONG))
    expected, directions = principal(data)
    weight = made.decoder[0].weight.detach().double().numpy()  # type: ignore[index]
    span = np.linalg.qr(weight)[0]  # (PIXELS, D)
    cosines = np.linalg.svd(directions @ span)[1]  # of the angles between the two subspaces
    assert cosines.min() > 0.99
    sigma = np.sqrt(expected / (PIXELS - D))  # Tipping & Bishop 1999, equation 8
    assert np.sqrt(state.variance) == pytest.approx(sigma, rel=0.1)


def test_sigma_is_the_root_mean_square_error_of_decoded_samples() -> None:
    data = images()
    made = model("vae")
    state = fit(made, data, None, config(objective="gaussian", epochs=40))
    squared = evaluate(made, data, config(objective="mse", beta=0.0))[1] / PIXELS
    assert state.variance == pytest.approx(squared, rel=0.05)


def test_the_kl_weight_rises_at_every_step() -> None:
    recipe = config(beta=2.0, kl_warmup=1.5)
    weights = [kl_weight(recipe, step, 4) for step in range(8)]
    assert weights == pytest.approx([2 * step / 6 for step in range(6)] + [2, 2])
    assert kl_weight(config(beta=3.0), 0, 4) == 3


def test_the_first_warm_up_step_has_no_kl_term() -> None:
    losses: list[Any] = []
    fit(model("vae"), images(64), None, config(kl_warmup=1, epochs=2), losses.append)
    first, second = losses
    assert first.loss == first.reconstruction
    assert second.loss == pytest.approx(second.reconstruction + second.kl)


def test_free_bits_keep_dimensions_alive() -> None:
    """With a KL weight that suppresses all information, only the free nats are used."""
    spent = []
    for free in (0.0, 0.5):
        made = model("vae")
        fit(made, images(), None, config(beta=100.0, free_bits=free, epochs=30))
        spent.append(evaluate(made, images(), config())[2])
    assert spent[0] < 0.1
    assert 0.4 < spent[1] < D * 0.5 + 0.1


def test_one_cycle_starts_low_peaks_and_ends_near_zero() -> None:
    recipe = config(learning_rate=1.0)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[15] == 1.0
    assert rates[57] == pytest.approx((1 + np.cos(np.pi * 42 / 85)) / 2)
    assert 0 < rates[99] < 1e-3
    assert learning_rate(replace(recipe, schedule="constant"), 7, 10) == 1.0


def test_ema_averages_the_weights_after_each_step() -> None:
    made = model("ae")
    state = State(made, config(ema=0.6))
    expected = [p.detach().clone() for p in made.parameters()]

    def follow(_: Any, last: bool) -> None:
        if last:
            return
        decay = min(0.6, (1 + state.step) / (10 + state.step))
        for mean, weight in zip(expected, made.parameters(), strict=True):
            mean.mul_(decay).add_(weight.detach(), alpha=1 - decay)

    fit(made, images(), None, config(ema=0.6), state=state, save=follow)
    for mean, weight in zip(expected, made.parameters(), strict=True):  # the average is kept
        torch.testing.assert_close(weight.detach(), mean)


def test_validation_uses_the_averaged_weights() -> None:
    made, data = model("vae"), images(128)
    history = fit(made, data, data, config(ema=0.9, epochs=3)).history
    assert evaluate(made, data, config())[0] == history[-1].validation_loss


def epochs(*losses: float | None) -> list[Epoch]:
    return [Epoch(i, 0, 0, 0, 1, 1, loss) for i, loss in enumerate(losses, 1)]


def test_patience_counts_the_epochs_after_the_best() -> None:
    recipe = config(patience=2, validation=0.1)
    assert best_epoch(epochs(3, 1, 2, 1)) == 1  # the first of several equal losses
    assert not out_of_patience([], recipe)
    assert not out_of_patience(epochs(3, 1, 2), recipe)
    assert out_of_patience(epochs(3, 1, 2, 1), recipe)
    assert not out_of_patience(epochs(3, 1, 2, 0.5), recipe)
    assert not out_of_patience(epochs(1, 2, 3, 4), config())


def moments(state: State) -> list[Tensor]:
    return [*state.optimizer.steps, *state.optimizer.exp_avg, *state.optimizer.exp_avg_sq]


def test_early_stopping_ends_with_the_best_weights_and_their_moments() -> None:
    """A wide model trained on random images soon overfits."""
    rng = np.random.default_rng(1)
    data, held = (
        Images(torch.from_numpy(rng.integers(0, 256, (40, *SHAPE), np.uint8)), None) for _ in "ab"
    )
    recipe = config(
        objective="mse", epochs=60, batch_size=10, patience=3, validation=0.1,
        learning_rate=0.01, schedule="constant",
    )  # fmt: skip
    made = model("ae", hidden=(64,))
    kept: dict[int, tuple[Any, list[Tensor]]] = {}
    state = State(made, recipe)

    def keep(epoch: Epoch) -> None:
        kept[epoch.epoch] = copy.deepcopy((made.state_dict(), moments(state)))

    fit(made, data, held, recipe, on_epoch=keep, state=state)
    best = best_epoch(state.history) + 1
    assert len(state.history) == best + 3 < 60
    weights, expected = kept[best]
    assert all(torch.equal(weights[name], t) for name, t in made.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(expected, moments(state), strict=True))
    last = kept[len(state.history)][0]
    assert not all(torch.equal(last[name], t) for name, t in made.state_dict().items())


def test_only_the_encoder_sees_noise() -> None:
    made, data = model("vae"), images(64)
    noise = torch.Generator().manual_seed(0)
    batch = BatchMaker(data, made.config, config(noise=0.5), ProcessGroup(), noise).make(
        torch.arange(64)
    )
    assert torch.equal(batch.image, data.pixels.float() / 255)
    assert 0 <= batch.encoder_input.min() < batch.encoder_input.max() <= 1
    assert (batch.encoder_input - batch.image).std() == pytest.approx(
        0.33, abs=0.05
    )  # less than 0.5 because of clipping


def test_binarised_pixels_are_1_with_their_gray_level_as_probability() -> None:
    data = Images(torch.full((400, *SHAPE), 51, dtype=torch.uint8), None)
    noise = torch.Generator().manual_seed(0)
    batches = BatchMaker(data, model("vae").config, config(binarise=True), ProcessGroup(), noise)
    first, second = (batches.make(torch.arange(400)).image for _ in range(2))
    assert set(first.unique().tolist()) == {0, 1}
    assert first.mean().item() == pytest.approx(51 / 255, abs=0.01)
    assert not torch.equal(first, second)  # sampled again at every step


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"binarise": True, "objective": "mse"}, "binarise needs objective bce"),
        ({"binarise": 1}, "binarise is 1"),
        ({"free_bits": 0.1, "importance_samples": 2}, "Set only one of them"),
        ({"patience": 3}, "early stopping needs held-out"),
    ],
)
def test_contradictory_settings_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        config(**changes)


@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_is_bf16_if_the_processor_supports_it(
    native: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native, "avx2": True}
    )
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) == ("bf16" if native else "float32")
    assert pick_precision("float32", cpu) == "float32"
    assert pick_precision("bf16", cpu) == "bf16"
    assert pick_precision("auto", torch.device("cuda")) == "float32"
