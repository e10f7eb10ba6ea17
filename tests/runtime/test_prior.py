"""Samples from priors, and the values that must never change."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae_runtime.errors import UsageError
from vae_runtime.prior import KINDS, Prior

pytestmark = pytest.mark.torch_free

Array = NDArray[np.float64]


def factors(rows: int, m: int, d: int, seed: int = 0) -> Array:
    """Random lower triangles with a positive diagonal, f64[rows, m, d, d]."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.normal(size=(rows, m, d, d)))
    diagonal = np.arange(d)
    lower[..., diagonal, diagonal] = rng.uniform(0.3, 1.5, (rows, m, d))
    return lower


def packed(lower: Array) -> Array:
    rows, columns = np.tril_indices(lower.shape[-1])
    found: Array = lower[..., rows, columns]
    return found


def mixture(kind: str, rows: int, m: int, d: int = 3) -> Prior:
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.2, 1, (rows, m))
    return Prior(
        kind,
        d,
        weights=weights / weights.sum(1, keepdims=True),
        mean=rng.normal(size=(rows, m, d)) * 3,
        cholesky=packed(factors(rows, m, d)),
    )


def box(d: int = 3) -> Prior:
    low = np.linspace(-2, 1, d)
    return Prior("uniform", d, low=low, high=low + np.linspace(0.5, 3, d))


def low_rank(kind: str, rows: int, m: int, d: int = 3, k: int = 2) -> Prior:
    rng = np.random.default_rng(2)
    return replace(
        mixture(kind, rows, m, k),
        latent_dim=d,
        center=rng.normal(size=d),
        directions=np.linalg.qr(rng.normal(size=(d, k)))[0].T,
        residual=rng.uniform(0.2, 1, d),
    )


PRIORS = {
    "normal": Prior.normal(3),
    "uniform": box(),
    "gaussian": mixture("gaussian", 1, 1),
    "gmm": mixture("gmm", 1, 4),
    "class_gmm": mixture("class_gmm", 6, 4),
    "low-rank": low_rank("class_gmm", 6, 4),
}


@pytest.fixture(params=PRIORS)
def prior(request: pytest.FixtureRequest) -> Prior:
    return PRIORS[request.param]


def test_every_kind_has_a_test_case() -> None:
    assert {prior.kind for prior in PRIORS.values()} == set(KINDS)


def test_latents_are_float32_of_the_right_shape(prior: Prior) -> None:
    for n in (0, 1, 7):
        latents = prior.sample(n, seed=0)
        assert latents.dtype == np.float32
        assert latents.shape == (n, 3)
        assert latents.flags.c_contiguous


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    truncation=st.sampled_from([None, 0.5, 1.5]),
    seed=st.integers(0, 2**64 - 1),
)
def test_latents_depend_only_on_seed_and_index(
    kind: str, cuts: list[int], truncation: float | None, seed: int
) -> None:
    """Batches of any size give the same latents, bit for bit."""
    prior = PRIORS[kind]
    labels = np.arange(60) % 6
    whole = prior.sample(60, labels, seed, truncation=truncation)
    edges = [0, *sorted(cuts), 60]
    parts = [
        prior.sample(b - a, labels[a:b], seed, start=a, truncation=truncation)
        for a, b in pairwise(edges)
    ]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("d", [1, 2, 3, 4, 7, 16, 33])
def test_batches_agree_for_every_latent_dim(d: int) -> None:
    for prior in (Prior.normal(d), box(d), mixture("gmm", 1, 2, d)):
        whole = prior.sample(9, seed=5, truncation=2)
        one_by_one = [prior.sample(1, seed=5, start=i, truncation=2) for i in range(9)]
        assert np.array_equal(np.concatenate(one_by_one), whole)


def test_any_start_index_is_immediate(prior: Prior) -> None:
    far = prior.sample(2, seed=0, start=10**15)
    assert np.array_equal(far[1:], prior.sample(1, seed=0, start=10**15 + 1))
    assert not np.array_equal(far, prior.sample(2, seed=0))


def test_seeds_differ_and_repeat(prior: Prior) -> None:
    first = prior.sample(8, seed=1)
    assert np.array_equal(first, prior.sample(8, seed=1))
    assert not np.array_equal(first, prior.sample(8, seed=2))
    assert not np.array_equal(prior.sample(8), prior.sample(8))  # random seeds


def test_samples_share_no_random_numbers() -> None:
    latents = Prior.normal(3).sample(5000, seed=0)
    assert len(np.unique(latents)) > 14_990


def test_latents_are_made_from_philox_as_documented() -> None:
    """The key is (seed, 0) and the counter is the block number plus one."""
    words = np.random.Philox(key=12345, counter=6).random_raw(8)
    uniform = (words >> np.uint64(11)) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[1])), 2 * np.pi * uniform[2]
    latents = Prior.normal(3).sample(4, seed=12345)
    # Two blocks per sample: the first word selects a component, then two words make two numbers.
    expected = [radius * np.cos(angle), radius * np.sin(angle)]
    np.testing.assert_allclose(latents[3, :2], expected, rtol=1e-6)


def plain_mixture(kind: str, rows: int, m: int) -> Prior:
    """A mixture with means 1, 2, 3, … and factors with 1, 2, 3, … on the diagonal and 1/2 below."""
    return Prior(
        kind,
        3,
        weights=np.full((rows, m), 1 / m),
        mean=np.arange(1.0, 1 + rows * m * 3).reshape(rows, m, 3),
        cholesky=np.tile([1, 0.5, 2, 0.5, 0.5, 3], (rows, m, 1)),
    )


PINNED: dict[str, tuple[Prior, list[list[float]]]] = {
    "normal": (
        Prior.normal(3),
        [[0.6988975, 0.5917396, -2.370398], [-0.7700436, 0.4353311, -0.3920974]],
    ),
    "uniform": (
        Prior("uniform", 3, low=np.array([-1.0, 0, 5]), high=np.array([1.0, 2, 6])),
        [[-0.315005, 0.2236321, 5.956212], [-0.3524355, 0.8362172, 5.101995]],
    ),
    "gaussian": (
        plain_mixture("gaussian", 1, 1),
        [[1.698897, 3.532928, -3.465874], [0.2299564, 2.485641, 1.656352]],
    ),
    "gmm": (
        plain_mixture("gmm", 1, 3),
        [[4.698897, 6.532928, -0.4658741], [6.229957, 8.485641, 7.656352]],
    ),
    "class_gmm": (
        plain_mixture("class_gmm", 6, 2),
        [[25.6989, 27.53293, 20.53413], [27.22996, 29.48564, 28.65635]],
    ),
}


@pytest.mark.parametrize("kind", PINNED)
def test_the_generator_does_not_change(kind: str) -> None:
    """If these values change, every seed of every bundle gives different images."""
    prior, expected = PINNED[kind]
    np.testing.assert_allclose(prior.sample(2, 4, seed=2026), expected, rtol=2e-6)


def test_the_truncated_generator_does_not_change() -> None:
    expected = [[-0.02736561, -0.4600166, -0.4751706], [-0.04078425, 0.4353311, -0.3920974]]
    found = Prior.normal(3).sample(2, seed=2026, truncation=0.5)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_generator_passes_the_published_known_answer_test() -> None:
    """Known-answer test of Philox-4x64-10 with all zero bits (Random123's kat_vectors)."""
    words = [int(w) for w in np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)]
    assert words == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


def test_moments_of_the_normal() -> None:
    latents = Prior.normal(4).sample(100_000, seed=0)
    np.testing.assert_allclose(latents.mean(0), 0, atol=0.015)
    np.testing.assert_allclose(np.cov(latents.T), np.eye(4), atol=0.02)
    np.testing.assert_allclose((latents**4).mean(0), 3, atol=0.15)


def test_uniform_latents_fill_their_box_evenly() -> None:
    prior = box()
    assert prior.low is not None
    assert prior.high is not None
    latents = prior.sample(50_000, seed=0)
    assert (latents >= prior.low.astype(np.float32)).all()
    assert (latents <= prior.high.astype(np.float32)).all()
    fraction = (latents - prior.low) / (prior.high - prior.low)
    for column in fraction.T:
        np.testing.assert_allclose(np.histogram(column, 10, (0, 1))[0], 5000, rtol=0.06)


@pytest.mark.parametrize("label", [None, 0, 3])
def test_moments_of_a_mixture_are_exact(label: int | None) -> None:
    prior = PRIORS["class_gmm"]
    assert prior.weights is not None
    assert prior.mean is not None
    row = 5 if label is None else label
    w, means, lower = prior.weights[row], prior.mean[row], factors(6, 4, 3)[row]
    mean = w @ means
    covariance = np.einsum("m,mij,mkj->ik", w, lower, lower)
    covariance += np.einsum("m,mi,mj->ij", w, means - mean, means - mean)
    latents = prior.sample(200_000, label, seed=3)
    np.testing.assert_allclose(latents.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(np.cov(latents.T), covariance, atol=0.15)


def test_components_are_as_frequent_as_their_weights() -> None:
    means = np.array([[[0.0], [10.0], [20.0]]])
    prior = Prior(
        "gmm",
        1,
        weights=np.array([[0.5, 0.2, 0.3]]),
        mean=means,
        cholesky=np.full((1, 3, 1), 1e-6),
    )
    latents = prior.sample(50_000, seed=0).round().ravel()
    fractions = [(latents == k).mean() for k in (0, 10, 20)]
    np.testing.assert_allclose(fractions, [0.5, 0.2, 0.3], atol=0.01)


@pytest.mark.parametrize("weights", [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0.4995, 0.25, 0.25, 0]])
def test_a_component_of_weight_0_is_never_used(weights: list[float]) -> None:
    prior = Prior(
        "gmm",
        1,
        weights=np.array([weights]),
        mean=np.arange(4.0).reshape(1, 4, 1),
        cholesky=np.full((1, 4, 1), 1e-6),
    )
    used = set(prior.sample(20_000, seed=0).round().ravel().tolist())
    assert used == {float(k) for k, weight in enumerate(weights) if weight}


def test_each_sample_has_its_own_label() -> None:
    prior = PRIORS["class_gmm"]
    labels = np.array([0, 5, 2, 2, 1])
    together = prior.sample(5, labels, seed=9)
    for i, label in enumerate(labels):
        assert np.array_equal(together[i : i + 1], prior.sample(1, int(label), seed=9, start=i))


def test_no_label_selects_the_last_mixture() -> None:
    prior = PRIORS["class_gmm"]
    assert prior.rows == 6
    assert np.array_equal(prior.sample(4, None, seed=0), prior.sample(4, 5, seed=0))


@pytest.mark.parametrize("name", ["normal", "uniform", "gaussian", "gmm"])
def test_kinds_without_classes_ignore_the_label(name: str) -> None:
    prior = PRIORS[name]
    assert np.array_equal(prior.sample(4, 99, seed=0), prior.sample(4, seed=0))


@pytest.mark.parametrize(
    "label",
    [-1, 6, np.array([0, 0, 6]), np.array([0, -1, 0]), np.array([0, 1]), 0.5, "3", [[1]] * 3],
)
def test_a_wrong_label_is_refused(label: Any) -> None:
    with pytest.raises(UsageError, match="label"):
        PRIORS["class_gmm"].sample(3, label, seed=0)
