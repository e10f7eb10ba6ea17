"""Temperature, truncation and spread of priors, their JSON, and refused values."""

from __future__ import annotations

from math import erf, sqrt
from typing import Any

import numpy as np
import pytest

from tests.runtime.test_prior import PRIORS, box, factors
from vae_runtime.errors import InputError, UsageError
from vae_runtime.prior import KINDS, Prior
from vae_runtime.rng import check_sampling, fresh_seed

pytestmark = pytest.mark.torch_free


def test_temperature_0_gives_the_means() -> None:
    assert not Prior.normal(3).sample(4, seed=0, temperature=0).any()
    low, high = PRIORS["uniform"].low, PRIORS["uniform"].high
    assert low is not None
    assert high is not None
    middle = np.tile((low + high) / 2, (4, 1)).astype(np.float32)
    assert np.array_equal(PRIORS["uniform"].sample(4, seed=0, temperature=0), middle)
    prior = PRIORS["class_gmm"]
    assert prior.mean is not None
    latents = prior.sample(50, 2, seed=0, temperature=0)
    means = {tuple(m) for m in prior.mean[2].astype(np.float32).tolist()}
    assert {tuple(z) for z in latents.tolist()} == means


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_temperature_scales_the_spread(prior: Prior) -> None:
    means, half, full = (
        prior.sample(50, 0, seed=0, temperature=t).astype(np.float64) for t in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half - means, (full - means) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [0.1, 0.5, 1.0, 3.0])
def test_truncation_bounds_every_normal(bound: float) -> None:
    latents = Prior.normal(5).sample(20_000, seed=0, truncation=bound)
    assert np.abs(latents).max() <= np.float32(bound)
    # A truncated normal distribution, not a clipped one.
    assert (np.abs(latents) == np.float32(bound)).mean() < 0.01
    cdf = np.array([erf(x / sqrt(2)) for x in np.linspace(-bound, bound, 7)])
    counts = np.histogram(latents, 6, (-bound, bound))[0] / latents.size
    np.testing.assert_allclose(counts, np.diff(cdf) / (cdf[-1] - cdf[0]), atol=0.005)


def test_truncation_does_not_change_values_inside_the_bound() -> None:
    plain, cut = (Prior.normal(2).sample(1000, seed=0, truncation=t) for t in (None, 1.0))
    inside = np.abs(plain) <= 1
    assert np.array_equal(plain[inside], cut[inside])
    assert not np.array_equal(plain[~inside], cut[~inside])


def test_truncation_counts_standard_deviations_of_each_component() -> None:
    prior = PRIORS["gaussian"]
    assert prior.mean is not None
    lower = factors(1, 1, 3)[0, 0]
    latents = prior.sample(1000, seed=0, truncation=1.0) - prior.mean[0, 0]
    eps = np.linalg.solve(lower, latents.T)
    assert np.abs(eps).max() <= 1 + 1e-4


def test_spread_is_the_exact_mean_and_standard_deviation() -> None:
    mean, std = Prior.normal(2).spread()
    assert (mean.tolist(), std.tolist()) == ([0, 0], [1, 1])
    latents = PRIORS["class_gmm"].sample(200_000, 1, seed=0)
    mean, std = PRIORS["class_gmm"].spread(1)
    np.testing.assert_allclose(mean, latents.mean(0), atol=0.03)
    np.testing.assert_allclose(std, latents.std(0), rtol=0.02)
    latents = PRIORS["low-rank"].sample(200_000, 1, seed=0)
    mean, std = PRIORS["low-rank"].spread(1)
    np.testing.assert_allclose(mean, latents.mean(0), atol=0.03)
    np.testing.assert_allclose(std, latents.std(0), rtol=0.02)
    latents = box().sample(200_000, seed=0)
    mean, std = box().spread()
    np.testing.assert_allclose(mean, latents.mean(0), atol=0.01)
    np.testing.assert_allclose(std, latents.std(0), rtol=0.01)


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_a_prior_is_read_back_from_json(prior: Prior) -> None:
    data = prior.to_json()
    again = Prior.from_json(data)
    assert again.to_json() == data
    assert (again.kind, again.latent_dim, again.rows) == (prior.kind, prior.latent_dim, prior.rows)
    np.testing.assert_allclose(
        again.sample(50, 1, seed=0), prior.sample(50, 1, seed=0), rtol=1e-4, atol=1e-4
    )


def test_json_keeps_six_digits() -> None:
    data = Prior("uniform", 1, low=np.array([1 / 3]), high=np.array([123456.789])).to_json()
    assert data == {"kind": "uniform", "latent_dim": 1, "low": [0.333333], "high": [123457.0]}


def valid(name: str) -> dict[str, Any]:
    return PRIORS[name].to_json()


NAN, INF = float("nan"), float("inf")
BAD: list[tuple[str, dict[str, Any]]] = [
    ("normal", {"kind": "laplace"}),
    ("normal", {"kind": ["normal"]}),
    ("normal", {"kind": None}),
    ("normal", {"latent_dim": 0}),
    ("normal", {"latent_dim": -3}),
    ("normal", {"latent_dim": 3.0}),
    ("normal", {"latent_dim": True}),
    ("normal", {"latent_dim": "3"}),
    ("normal", {"latent_dim": 10**12}),
    ("normal", {"low": [0, 0, 0]}),
    ("uniform", {"latent_dim": 4}),
    ("uniform", {"low": None}),
    ("uniform", {"low": "0"}),
    ("uniform", {"low": ["-9", "-9", "-9"]}),
    ("uniform", {"low": [0, 0, NAN]}),
    ("uniform", {"low": [0, 0, -INF]}),
    ("uniform", {"low": [0, [0, 0]]}),
    ("uniform", {"low": [[0, 0, 0]]}),
    ("uniform", {"high": [True, True, True]}),
    ("uniform", {"low": [0, 0, 10**400]}),
    ("uniform", {"high": [-9, 9, 9]}),
    ("uniform", {"high": {}}),
    ("uniform", {"weights": [[1]]}),
    ("gaussian", {"weights": [[0.5, 0.5]]}),
    ("gmm", {"latent_dim": 2}),
    ("gmm", {"weights": [[0.5, 0.5, 0.5, -0.5]]}),
    ("gmm", {"weights": [[0.5, 0.5, 0.5, 0.5]]}),
    ("gmm", {"weights": [[0, 0, 0, 0]]}),
    ("gmm", {"weights": [[1, 0, 0]]}),
    ("gmm", {"weights": [1, 0, 0, 0]}),
    ("gmm", {"weights": [[NAN, 0, 0, 1]]}),
    ("gmm", {"weights": []}),
    ("gmm", {"weights": [[]], "mean": [[]], "cholesky": [[]]}),
    ("gmm", {"mean": [[[0, 0, 0]] * 3]}),
    ("gmm", {"mean": [[[0, 0]] * 4]}),
    ("gmm", {"mean": [[[0, 0, INF]] * 4]}),
    ("gmm", {"cholesky": [[[1, 0, 1]] * 4]}),
    ("gmm", {"cholesky": [[[1, 0, 1, 0, 0, NAN]] * 4]}),
    ("class_gmm", {"kind": "gmm"}),
    ("gmm", {"kind": "class_gmm"}),
    ("gmm", {"kind": "gaussian"}),
    ("gmm", {"kind": "normal"}),
]


@pytest.mark.parametrize(("name", "change"), BAD, ids=[f"{n}-{c}"[:60] for n, c in BAD])
def test_bad_json_is_refused(name: str, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="prior"):
        Prior.from_json(valid(name) | change)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_is_required(name: str) -> None:
    for field in valid(name):
        data = valid(name)
        del data[field]
        with pytest.raises(InputError, match="prior"):
            Prior.from_json(data)


@pytest.mark.parametrize("data", [None, [], "normal", 3])
def test_json_must_be_an_object(data: Any) -> None:
    with pytest.raises(InputError, match="expected a JSON object"):
        Prior.from_json(data)


def test_wrong_arrays_are_refused_with_the_reason() -> None:
    low, high = np.zeros(2), np.ones(2)
    two = {"weights": np.ones((2, 1)), "mean": np.zeros((2, 1, 2)), "cholesky": np.ones((2, 1, 3))}
    one, none = ({k: v[:1] for k, v in two.items()}, {k: v[:, :0] for k, v in two.items()})
    with_nan = np.array([1.0, np.nan])
    sums = "expected weights of 0 or more that sum to 1 in each row"
    for kind, arrays, message in (
        ("box", {"low": low, "high": high}, f"kind 'box' of 2 dimensions, expected one of {KINDS}"),
        ("box", two, "kind 'box' of 2 dimensions"),
        ("uniform", {"low": with_nan, "high": high}, "low has shape (2,), expected (2,), all fin"),
        ("uniform", {"low": low, "high": with_nan}, "high has shape (2,), expected (2,), all fin"),
        ("uniform", {"low": low, "high": np.ones(3)}, "high has shape (3,), expected (2,)"),
        ("uniform", {"low": high, "high": low}, "low is above high, expected low <= high"),
        ("gmm", none, sums),
        ("gmm", two | {"weights": -two["weights"]}, sums),
        ("gmm", two, "2 mixtures of 1 components do not fit gmm"),
        ("gaussian", two, "2 mixtures of 1 components do not fit gaussian"),
        ("class_gmm", one, "1 mixtures of 1 components do not fit class_gmm"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            Prior(kind, 2, **arrays)
        assert str(caught.value).startswith(f"prior: {message}")


def test_zero_latents_take_zero_labels() -> None:
    assert PRIORS["class_gmm"].sample(0, np.zeros(0, np.int64), 0).shape == (0, 3)


def test_a_prior_is_checked_when_it_is_created() -> None:
    with pytest.raises(InputError, match="gmm has the arrays none"):
        Prior("gmm", 3)
    with pytest.raises(InputError, match="low"):
        Prior("uniform", 3, low=np.zeros(2), high=np.ones(3))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"n": -1}, "n is -1"),
        ({"n": 1.5}, "n is 1.5"),
        ({"n": 1, "seed": -1}, "seed is -1"),
        ({"n": 1, "seed": 2**64}, "seed is"),
        ({"n": 1, "seed": 0.5}, "seed is 0.5"),
        ({"n": 1, "start": -1}, "start is -1"),
        ({"n": 1, "temperature": -0.1}, "temperature"),
        ({"n": 1, "temperature": NAN}, "temperature"),
        ({"n": 1, "temperature": INF}, "temperature"),
        ({"n": 1, "truncation": 0.0}, "truncation"),
        ({"n": 1, "truncation": NAN}, "truncation"),
        ({"n": 1, "truncation": INF}, "truncation"),
    ],
)
def test_sampling_options_out_of_range_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Prior.normal(2).sample(**arguments)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1, np.int64(7), np.uint64(2**64 - 1)])
def test_the_smallest_and_largest_seeds_are_accepted(seed: Any) -> None:
    check_sampling(1, seed)
    assert np.isfinite(Prior.normal(2).sample(3, seed=seed)).all()


def test_fresh_seeds_are_32_bit_and_differ() -> None:
    seeds = [fresh_seed() for _ in range(100)]
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert len(set(seeds)) > 95
