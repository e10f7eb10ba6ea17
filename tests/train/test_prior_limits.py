"""Fit priors to latents: sampling, seeds, limits and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.train.test_prior_fit import Array, blobs, covariance, identity_model, images_of
from vae_models import build, preset
from vae_runtime.errors import UsageError
from vae_runtime.prior import Prior
from vae_train import prior_fit as module
from vae_train.data import Images
from vae_train.prior_fit import check_prior, fit_prior, sample_latents


def test_only_as_many_images_are_encoded_as_a_mixture_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_LATENTS", 60)
    seen: list[int] = []
    plain = module.sample_latents

    def spy(model: Any, data: Images, seed: int, **options: Any) -> Array:
        seen.append(len(data))
        return plain(model, data, seed, **options)

    monkeypatch.setattr(module, "sample_latents", spy)
    values, labels = blobs(200)
    data = images_of(values, labels)
    fit_prior(identity_model("ae", 2), data)
    assert seen == [60]
    seen.clear()
    prior = fit_prior(identity_model("ae", 2), data, "uniform").prior
    assert seen == [200]  # the box must contain all latents
    np.testing.assert_allclose(prior.low, values.min(0), atol=0.003)
    seen.clear()
    conditioned = build(preset("default", "cvae", (1, 1, 2), 2, backbone="mlp", hidden=(4,)))
    fit_prior(conditioned, data)
    assert seen == [200, 60]  # with labels, then without
    seen.clear()
    fit_prior(identity_model("cvae", 2, classes=2), data)
    assert seen == [200]  # the encoder sees no label, so both would be equal


def test_the_picked_number_of_components_is_limited_by_the_size_of_the_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, _ = blobs(1500)
    monkeypatch.setattr(module, "_MAX_PICKED_NUMBERS", 2 * (1 + 2 + 3))
    prior = fit_prior(identity_model("ae", 2), images_of(values)).prior
    assert prior.weights.shape == (1, 1)  # of 1, 3, 5 …, only 1 is within the limit
    asked = fit_prior(identity_model("ae", 2), images_of(values), components=4).prior
    assert asked.weights.shape == (1, 4)  # an explicit number is not reduced


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_the_fit_is_determined_by_the_seed(seed: int) -> None:
    values, labels = blobs(300)
    model, data = identity_model("cvae", 2, classes=2), images_of(values, labels)
    fits = [fit_prior(model, data, components=3, seed=seed).prior.to_json() for _ in range(2)]
    assert fits[0] == fits[1]
    assert (
        fit_prior(model, data, components=3, seed=seed - 1 if seed else 1).prior.to_json()
        != (fits[0])
    )


def test_a_fitted_prior_round_trips_through_json() -> None:
    values, labels = blobs(300)
    prior = fit_prior(identity_model("cvae", 2, classes=2), images_of(values, labels)).prior
    again = Prior.from_json(prior.to_json())
    np.testing.assert_allclose(
        again.sample(100, 1, seed=3), prior.sample(100, 1, seed=3), atol=1e-4
    )


def test_latents_of_a_vae_are_sampled_and_those_of_an_ae_are_not() -> None:
    values, _ = blobs(500)
    data = images_of(values)
    exact = np.rint(values * 255) / 255
    np.testing.assert_allclose(
        sample_latents(identity_model("ae", 2), data, seed=0), exact, atol=1e-6
    )
    noise = (
        sample_latents(identity_model("vae", 2, spread=float(np.log(0.04))), data, seed=0) - exact
    )
    assert noise.std() == pytest.approx(0.2, rel=0.06)
    model = identity_model("vae", 2, spread=0.0)
    first, again, other = (sample_latents(model, data, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("spread", [None, 0.0, 0.5, 1.0])
def test_the_spread_scales_the_posterior_deviation_that_the_prior_is_fitted_to(
    spread: float | None,
) -> None:
    values, _ = blobs(6000)
    data = images_of(values)
    model = identity_model("vae", 2, spread=float(np.log(0.3**2)))
    fitted = fit_prior(model, data, "gaussian", **({} if spread is None else {"spread": spread}))
    expected = np.cov(values.T) + np.eye(2) * (0.3 * (0.75 if spread is None else spread)) ** 2
    np.testing.assert_allclose(covariance(fitted.prior, 0, 0), expected, atol=3e-3)
    means = sample_latents(model, data, seed=0, spread=0)
    np.testing.assert_allclose(means, np.rint(values * 255) / 255, atol=1e-6)


def test_the_spread_applies_to_the_prior_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_TAIL", 0.0)
    values, labels = blobs(6000)
    model = identity_model("cvae", 2, classes=2, spread=float(np.log(0.3**2)))
    data = images_of(values, labels)
    fitted = fit_prior(model, data, "class_gmm", components=1, spread=0.5).prior
    for k in (0, 1):
        expected = np.cov(values[labels == k].T) + np.eye(2) * (0.3 / 2) ** 2
        np.testing.assert_allclose(covariance(fitted, k, 0), expected, atol=3e-3)


def test_the_tail_is_dropped_from_classes_but_not_from_latents_without_a_label() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(0.3 + 0.05 * rng.normal(size=(4000, 2)), 0, 1)
    wrong = np.arange(0, 4000, 81)  # move 1.25% of each class far away
    values[wrong] = rng.uniform(0.7, 1, (len(wrong), 2))
    labels = np.arange(4000) % 2
    prior = fit_prior(identity_model("cvae", 2, classes=2), images_of(values, labels)).prior
    far = [float((prior.sample(4000, k, seed=0)[:, 0] > 0.6).mean()) for k in (0, 1)]
    assert far == [0, 0]
    alone = fit_prior(identity_model("ae", 2), images_of(values)).prior.sample(4000, seed=0)
    assert float((alone[:, 0] > 0.6).mean()) == pytest.approx(len(wrong) / 4000, abs=0.006)


@pytest.mark.parametrize(
    ("kind", "family", "named"),
    [("laplace", "vae", "laplace"), ("class_gmm", "vae", "cvae"), ("class_gmm", "ae", "cvae")],
)
def test_a_prior_that_does_not_fit_the_family_is_refused(
    kind: str, family: Any, named: str
) -> None:
    config = preset("default", family, (1, 8, 8))
    with pytest.raises(UsageError, match=named):
        check_prior(kind, None, config)
    with pytest.raises(UsageError, match=named):
        fit_prior(identity_model(family, 2), images_of(blobs(10)[0]), kind)


@pytest.mark.parametrize(
    ("family", "dim", "classes", "kind", "components", "named"),
    [
        ("ae", 256, 0, "gmm", 40, "prior gmm of 256 dimensions has 1,326,120 numbers"),
        ("cvae", 101, 1000, "auto", None, "prior class_gmm of 101 dimensions has 5,258,253"),
        ("vae", 84, 0, "gmm", 1283, "prior gmm of 84 dimensions"),
        ("vae", 4, 0, "gaussian", 3, "components is 3, but prior gaussian has none"),
        ("vae", 4, 0, "normal", 1, "components is 1, but prior normal has none"),
    ],
)
def test_a_prior_too_large_or_with_superfluous_components_is_refused(
    family: Any, dim: int, classes: int, kind: str, components: int | None, named: str
) -> None:
    config = preset(
        "default", family, (1, 8, 8), classes, backbone="mlp", hidden=(8,), latent_dim=dim
    )
    with pytest.raises(UsageError, match=named):
        check_prior(kind, components, config)
    check_prior("normal", None, config)


def test_class_gmm_without_labels_is_refused() -> None:
    with pytest.raises(UsageError, match="label"):
        fit_prior(identity_model("cvae", 2, classes=2), images_of(blobs(10)[0]))


def test_latents_that_are_not_finite_are_reported() -> None:
    model = identity_model("ae", 2)
    model.head.bias = nn.Parameter(torch.tensor([float("nan"), 0.0]))
    with pytest.raises(UsageError, match="not finite"):
        fit_prior(model, images_of(blobs(10)[0]))
