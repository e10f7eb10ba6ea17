from __future__ import annotations

from itertools import pairwise
from math import erf, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vae_runtime.errors import InputError, UsageError
from vae_runtime.prior import KINDS, Prior, check_draw, fresh_seed

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


PRIORS = {
    "normal": Prior.normal(3),
    "uniform": box(),
    "gaussian": mixture("gaussian", 1, 1),
    "gmm": mixture("gmm", 1, 4),
    "class_gmm": mixture("class_gmm", 6, 4),
}


@pytest.fixture(params=KINDS)
def prior(request: pytest.FixtureRequest) -> Prior:
    return PRIORS[request.param]


def test_there_is_a_case_of_every_kind() -> None:
    assert tuple(PRIORS) == KINDS


def test_codes_are_float32_of_the_right_shape(prior: Prior) -> None:
    for n in (0, 1, 7):
        codes = prior.sample(n, seed=0)
        assert codes.dtype == np.float32
        assert codes.shape == (n, 3)
        assert codes.flags.c_contiguous


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    truncation=st.sampled_from([None, 0.5, 1.5]),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_code_depends_on_seed_and_index_alone(
    kind: str, cuts: list[int], truncation: float | None, seed: int
) -> None:
    """Whatever the chunking, the same codes bit for bit."""
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
def test_every_dimension_count_can_be_chunked(d: int) -> None:
    for prior in (Prior.normal(d), box(d), mixture("gmm", 1, 2, d)):
        whole = prior.sample(9, seed=5, truncation=2)
        one_by_one = [prior.sample(1, seed=5, start=i, truncation=2) for i in range(9)]
        assert np.array_equal(np.concatenate(one_by_one), whole)


def test_an_index_far_away_is_had_at_once(prior: Prior) -> None:
    far = prior.sample(2, seed=0, start=10**15)
    assert np.array_equal(far[1:], prior.sample(1, seed=0, start=10**15 + 1))
    assert not np.array_equal(far, prior.sample(2, seed=0))


def test_seeds_differ_and_repeat(prior: Prior) -> None:
    first = prior.sample(8, seed=1)
    assert np.array_equal(first, prior.sample(8, seed=1))
    assert not np.array_equal(first, prior.sample(8, seed=2))
    assert not np.array_equal(prior.sample(8), prior.sample(8))  # fresh ones


def test_no_two_samples_share_a_number() -> None:
    codes = Prior.normal(3).sample(5000, seed=0)
    assert len(np.unique(codes)) > 14_990


def test_the_words_are_used_as_documented() -> None:
    """The words are Philox-4x64's own: key (seed, 0), counter one more than the block's number."""
    words = np.random.Philox(key=12345, counter=6).random_raw(8)
    uniform = (words >> np.uint64(11)) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(1 - uniform[1])), 2 * np.pi * uniform[2]
    codes = Prior.normal(3).sample(4, seed=12345)
    # Two blocks a sample: the first word picks a component, then two for each pair of numbers.
    expected = [radius * np.cos(angle), radius * np.sin(angle)]
    np.testing.assert_allclose(codes[3, :2], expected, rtol=1e-6)


def plain_mixture(kind: str, rows: int, m: int) -> Prior:
    """Means 1, 2, 3 … and factors with 1, 2, 3 on the diagonal and 1/2 below it."""
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
def test_the_generator_never_silently_changes(kind: str) -> None:
    """Every bundle's seeds give other images if these values change."""
    prior, expected = PINNED[kind]
    np.testing.assert_allclose(prior.sample(2, 4, seed=2026), expected, rtol=2e-6)


def test_the_truncated_generator_never_silently_changes() -> None:
    expected = [[-0.02736561, -0.4600166, -0.4751706], [-0.04078425, 0.4353311, -0.3920974]]
    found = Prior.normal(3).sample(2, seed=2026, truncation=0.5)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_the_words_of_a_seed_are_those_of_the_published_generator() -> None:
    """Known-answer test of Philox-4x64-10 with all zero bits (Random123's kat_vectors)."""
    words = [int(w) for w in np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)]
    assert words == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


def test_moments_of_the_normal() -> None:
    codes = Prior.normal(4).sample(100_000, seed=0)
    np.testing.assert_allclose(codes.mean(0), 0, atol=0.015)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(4), atol=0.02)
    np.testing.assert_allclose((codes**4).mean(0), 3, atol=0.15)


def test_uniform_codes_fill_their_box_evenly() -> None:
    prior = box()
    assert prior.low is not None
    assert prior.high is not None
    codes = prior.sample(50_000, seed=0)
    assert (codes >= prior.low.astype(np.float32)).all()
    assert (codes <= prior.high.astype(np.float32)).all()
    share = (codes - prior.low) / (prior.high - prior.low)
    for column in share.T:
        np.testing.assert_allclose(np.histogram(column, 10, (0, 1))[0], 5000, rtol=0.06)


@pytest.mark.parametrize("label", [None, 0, 3])
def test_moments_of_a_mixture_are_the_exact_ones(label: int | None) -> None:
    prior = PRIORS["class_gmm"]
    assert prior.weights is not None
    assert prior.mean is not None
    row = 5 if label is None else label
    w, means, lower = prior.weights[row], prior.mean[row], factors(6, 4, 3)[row]
    mean = w @ means
    covariance = np.einsum("m,mij,mkj->ik", w, lower, lower)
    covariance += np.einsum("m,mi,mj->ij", w, means - mean, means - mean)
    codes = prior.sample(200_000, label, seed=3)
    np.testing.assert_allclose(codes.mean(0), mean, atol=0.04)
    np.testing.assert_allclose(np.cov(codes.T), covariance, atol=0.15)


def test_components_come_in_the_shares_of_their_weights() -> None:
    means = np.array([[[0.0], [10.0], [20.0]]])
    prior = Prior(
        "gmm",
        1,
        weights=np.array([[0.5, 0.2, 0.3]]),
        mean=means,
        cholesky=np.full((1, 3, 1), 1e-6),
    )
    codes = prior.sample(50_000, seed=0).round().ravel()
    shares = [(codes == k).mean() for k in (0, 10, 20)]
    np.testing.assert_allclose(shares, [0.5, 0.2, 0.3], atol=0.01)


@pytest.mark.parametrize("weights", [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [0.4995, 0.25, 0.25, 0]])
def test_a_component_of_weight_0_is_never_drawn(weights: list[float]) -> None:
    prior = Prior(
        "gmm",
        1,
        weights=np.array([weights]),
        mean=np.arange(4.0).reshape(1, 4, 1),
        cholesky=np.full((1, 4, 1), 1e-6),
    )
    drawn = set(prior.sample(20_000, seed=0).round().ravel().tolist())
    assert drawn == {float(k) for k, weight in enumerate(weights) if weight}


def test_each_sample_has_its_own_label() -> None:
    prior = PRIORS["class_gmm"]
    labels = np.array([0, 5, 2, 2, 1])
    together = prior.sample(5, labels, seed=9)
    for i, label in enumerate(labels):
        assert np.array_equal(together[i : i + 1], prior.sample(1, int(label), seed=9, start=i))


def test_no_label_is_the_last_row() -> None:
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
def test_a_label_that_does_not_fit_is_refused(label: Any) -> None:
    with pytest.raises(UsageError, match="label"):
        PRIORS["class_gmm"].sample(3, label, seed=0)


def test_temperature_0_gives_the_means() -> None:
    assert not Prior.normal(3).sample(4, seed=0, temperature=0).any()
    low, high = PRIORS["uniform"].low, PRIORS["uniform"].high
    assert low is not None
    assert high is not None
    middle = np.tile((low + high) / 2, (4, 1)).astype(np.float32)
    assert np.array_equal(PRIORS["uniform"].sample(4, seed=0, temperature=0), middle)
    prior = PRIORS["class_gmm"]
    assert prior.mean is not None
    drawn = prior.sample(50, 2, seed=0, temperature=0)
    means = {tuple(m) for m in prior.mean[2].astype(np.float32).tolist()}
    assert {tuple(z) for z in drawn.tolist()} == means


def test_temperature_scales_the_spread(prior: Prior) -> None:
    means, half, full = (
        prior.sample(50, 0, seed=0, temperature=t).astype(np.float64) for t in (0, 0.5, 1)
    )
    np.testing.assert_allclose(half - means, (full - means) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [0.1, 0.5, 1.0, 3.0])
def test_truncation_bounds_every_number(bound: float) -> None:
    codes = Prior.normal(5).sample(20_000, seed=0, truncation=bound)
    assert np.abs(codes).max() <= np.float32(bound)
    # A truncated normal, not one that was pushed to the edge.
    assert (np.abs(codes) == np.float32(bound)).mean() < 0.01
    below = np.array([erf(x / sqrt(2)) for x in np.linspace(-bound, bound, 7)])
    counts = np.histogram(codes, 6, (-bound, bound))[0] / codes.size
    np.testing.assert_allclose(counts, np.diff(below) / (below[-1] - below[0]), atol=0.005)


def test_truncation_leaves_what_lies_inside_alone() -> None:
    plain, cut = (Prior.normal(2).sample(1000, seed=0, truncation=t) for t in (None, 1.0))
    inside = np.abs(plain) <= 1
    assert np.array_equal(plain[inside], cut[inside])
    assert not np.array_equal(plain[~inside], cut[~inside])


def test_truncation_counts_standard_deviations_of_each_component() -> None:
    prior = PRIORS["gaussian"]
    assert prior.mean is not None
    lower = factors(1, 1, 3)[0, 0]
    codes = prior.sample(1000, seed=0, truncation=1.0) - prior.mean[0, 0]
    eps = np.linalg.solve(lower, codes.T)
    assert np.abs(eps).max() <= 1 + 1e-4


def test_spread_is_the_exact_mean_and_deviation() -> None:
    mean, std = Prior.normal(2).spread()
    assert (mean.tolist(), std.tolist()) == ([0, 0], [1, 1])
    codes = PRIORS["class_gmm"].sample(200_000, 1, seed=0)
    mean, std = PRIORS["class_gmm"].spread(1)
    np.testing.assert_allclose(mean, codes.mean(0), atol=0.03)
    np.testing.assert_allclose(std, codes.std(0), rtol=0.02)
    codes = box().sample(200_000, seed=0)
    mean, std = box().spread()
    np.testing.assert_allclose(mean, codes.mean(0), atol=0.01)
    np.testing.assert_allclose(std, codes.std(0), rtol=0.01)


def test_json_round_trip(prior: Prior) -> None:
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


def good(name: str) -> dict[str, Any]:
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
        Prior.from_json(good(name) | change)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_must_be_there(name: str) -> None:
    for field in good(name):
        data = good(name)
        del data[field]
        with pytest.raises(InputError, match="prior"):
            Prior.from_json(data)


@pytest.mark.parametrize("data", [None, [], "normal", 3])
def test_json_that_is_no_object_is_refused(data: Any) -> None:
    with pytest.raises(InputError, match="expected a JSON object"):
        Prior.from_json(data)


def test_a_prior_is_checked_when_it_is_made() -> None:
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
def test_a_draw_outside_its_range_is_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Prior.normal(2).sample(**arguments)


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63, 2**64 - 1, np.int64(7), np.uint64(2**64 - 1)])
def test_every_seed_in_the_range_works(seed: Any) -> None:
    check_draw(1, seed)
    assert np.isfinite(Prior.normal(2).sample(3, seed=seed)).all()


def test_fresh_seeds_are_short_and_not_the_same() -> None:
    seeds = [fresh_seed() for _ in range(100)]
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert len(set(seeds)) > 95
