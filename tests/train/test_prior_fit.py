"""Fit every kind of prior to known latents of every family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_models import build, preset
from vae_runtime.prior import Prior
from vae_train.data import Images
from vae_train.prior_fit import fit_prior

Array = NDArray[np.float64]


class Identity(nn.Module):
    """An encoder that outputs the image itself, so that the latents are known."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return image.flatten(1)


def identity_model(family: Any, dim: int, classes: int = 0, spread: float = -10.0) -> Any:
    """A model whose posterior mean equals the pixels."""
    changes = {"hidden": (4,), "latent_dim": dim, "encoder_join": "none"}
    config = preset("default", family, (1, 1, dim), classes, backbone="mlp", **changes)
    model: Any = build(config)
    model.encoder = Identity(dim)
    for head in [model.head] if family == "ae" else [model.mu]:
        head.weight, head.bias = nn.Parameter(torch.eye(dim)), nn.Parameter(torch.zeros(dim))
    if family != "ae":
        model.log_var.weight = nn.Parameter(torch.zeros(dim, dim))
        model.log_var.bias = nn.Parameter(torch.full((dim,), spread))
    return model


def images_of(values: Array, labels: NDArray[np.int64] | None = None) -> Images:
    """Images whose pixels, in [0, 1], are `values` f64[N, D]."""
    pixels = torch.from_numpy(np.rint(values * 255).astype(np.uint8)[:, None, None])
    return Images(pixels, None if labels is None else torch.from_numpy(labels))


def blobs(n: int, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Two clouds in the unit square: 70% at (.25, .3), 30% at (.75, .6), deviation .05 and .08."""
    rng = np.random.default_rng(seed)
    which = (rng.random(n) < 0.3).astype(np.int64)
    centers, spread = np.array([[0.25, 0.3], [0.75, 0.6]]), np.array([0.05, 0.08])
    return np.clip(centers[which] + rng.normal(size=(n, 2)) * spread[which, None], 0, 1), which


def covariance(prior: Prior, row: int, component: int) -> Array:
    factor = np.zeros((prior.latent_dim,) * 2)
    factor[np.tril_indices(prior.latent_dim)] = prior.cholesky[row, component]
    return factor @ factor.T


@pytest.mark.parametrize("family", ["ae", "vae"])
def test_a_known_mixture_is_recovered(family: Any) -> None:
    values, _ = blobs(4000)
    prior = fit_prior(identity_model(family, 2), images_of(values), "gmm", components=2).prior
    assert prior.kind == "gmm"
    order = np.argsort(prior.mean[0, :, 0])
    np.testing.assert_allclose(prior.weights[0, order], [0.7, 0.3], atol=0.02)
    np.testing.assert_allclose(prior.mean[0, order], [[0.25, 0.3], [0.75, 0.6]], atol=0.01)
    for component, deviation in zip(order, (0.05, 0.08), strict=True):
        expected = np.eye(2) * deviation**2
        np.testing.assert_allclose(covariance(prior, 0, component), expected, atol=6e-4)


def test_held_out_latents_decide_the_number_of_components() -> None:
    one, _ = blobs(1500)
    rng = np.random.default_rng(1)
    single = np.clip(0.5 + 0.1 * rng.normal(size=(1500, 2)), 0, 1)
    prior = fit_prior(identity_model("ae", 2), images_of(single)).prior
    assert prior.weights.shape == (1, 1)
    several = fit_prior(identity_model("ae", 2), images_of(one)).prior
    assert several.weights.shape[1] > 1


def test_the_score_is_the_log_likelihood_of_held_out_latents() -> None:
    rng = np.random.default_rng(1)
    values = np.clip(0.5 + 0.1 * rng.normal(size=(4000, 2)), 0, 1)
    fitted = fit_prior(identity_model("ae", 2), images_of(values), "gaussian")
    # The negative entropy of N(·, 0.1² I) in two dimensions.
    expected = -(1 + np.log(2 * np.pi) + 2 * np.log(0.1))
    assert fitted.held_out_log_likelihood == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("kind", ["gaussian", "gmm", "uniform", "normal", "auto"])
@pytest.mark.parametrize("family", ["ae", "vae", "cvae"])
def test_every_kind_of_prior_fits_every_family(family: Any, kind: str) -> None:
    values, labels = blobs(200)
    model = identity_model(family, 2, classes=2 if family == "cvae" else 0)
    fitted = fit_prior(model, images_of(values, labels), kind)
    expected = {"auto": "class_gmm" if family == "cvae" else "gmm"}.get(kind, kind)
    assert fitted.prior.kind == expected
    assert (fitted.held_out_log_likelihood is None) == (kind in ("uniform", "normal"))
    drawn = fitted.prior.sample(500, seed=0)
    assert drawn.shape == (500, 2)
    assert np.isfinite(drawn).all()


def test_gaussian_is_the_mean_and_covariance_of_the_latents() -> None:
    values, _ = blobs(3000)
    prior = fit_prior(identity_model("ae", 2), images_of(values), "gaussian").prior
    np.testing.assert_allclose(prior.mean[0, 0], values.mean(0), atol=0.01)
    np.testing.assert_allclose(covariance(prior, 0, 0), np.cov(values.T), atol=2e-3)


def test_uniform_is_the_box_that_the_latents_span() -> None:
    values, _ = blobs(100)
    prior = fit_prior(identity_model("ae", 2), images_of(values), "uniform").prior
    np.testing.assert_allclose(prior.low, values.min(0), atol=0.003)
    np.testing.assert_allclose(prior.high, values.max(0), atol=0.003)


def test_class_gmm_has_a_row_per_class_and_one_for_no_label() -> None:
    values, labels = blobs(2000)
    model = identity_model("cvae", 2, classes=2)
    prior = fit_prior(model, images_of(values, labels), components=1).prior
    assert prior.kind == "class_gmm"
    assert prior.mean.shape == (3, 1, 2)
    np.testing.assert_allclose(prior.mean[0, 0], [0.25, 0.3], atol=0.01)
    np.testing.assert_allclose(prior.mean[1, 0], [0.75, 0.6], atol=0.02)
    np.testing.assert_allclose(prior.mean[2, 0], values.mean(0), atol=0.02)


def test_a_rare_class_gets_fewer_components_without_affecting_the_others() -> None:
    rng = np.random.default_rng(0)
    many, _ = blobs(2000)
    few = np.clip(0.9 + 0.01 * rng.normal(size=(6, 2)), 0, 1)
    labels = np.repeat([0, 1, 2], [2000, 6, 1])
    values = np.concatenate([many, few, [[0.1, 0.9]]])
    model = identity_model("cvae", 2, classes=4)  # the fourth class has no images
    prior = fit_prior(model, images_of(values, labels)).prior
    used = (prior.weights > 0).sum(1)
    assert used[0] > 1
    assert used[1] == used[2] == 1
    np.testing.assert_allclose(prior.weights.sum(1), 1)
    only = prior.sample(50, label=2, seed=0)
    np.testing.assert_allclose(only, np.tile([0.1, 0.9], (50, 1)), atol=0.01)
    empty = prior.sample(2000, label=3, seed=0)  # fitted to all latents
    np.testing.assert_allclose(empty.mean(0), values.mean(0), atol=0.03)  # all but the tail


def test_the_number_of_components_is_limited_by_the_latents() -> None:
    values, _ = blobs(12)
    prior = fit_prior(identity_model("ae", 2), images_of(values), "gmm", components=100).prior
    assert prior.weights.shape[1] <= 12


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_images_are_enough(n: int) -> None:
    prior = fit_prior(identity_model("ae", 2), images_of(blobs(n)[0])).prior
    assert np.isfinite(prior.sample(10, seed=0)).all()


@pytest.mark.parametrize("dead", [1, 3])
def test_inactive_units_do_not_break_the_fit(dead: int) -> None:
    """After a ReLU, some dimensions are 0 for every image, and others for many."""
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(0.1, 0.3, (800, 3)), 0, 1)
    values[:, 3 - dead :] = 0
    prior = fit_prior(identity_model("ae", 3), images_of(values)).prior
    drawn = prior.sample(1000, seed=0)
    assert np.abs(drawn[:, 3 - dead :]).max() < 1e-2
    np.testing.assert_allclose(drawn.mean(0), values.mean(0), atol=0.05)


def test_latents_with_a_large_mean_and_different_scales_are_fitted_accurately() -> None:
    """The fit runs in float32, which would lose precision with a mean of 10,000."""
    values, _ = blobs(2000)
    model = identity_model("ae", 2)
    model.head.weight = nn.Parameter(torch.diag(torch.tensor([1.0, 100.0])))
    model.head.bias = nn.Parameter(torch.tensor([10_000.0, 0.0]))
    prior = fit_prior(model, images_of(values), "gaussian").prior
    expected = np.cov(values.T) * np.outer([1, 100], [1, 100])
    np.testing.assert_allclose(covariance(prior, 0, 0), expected, rtol=0.1)
