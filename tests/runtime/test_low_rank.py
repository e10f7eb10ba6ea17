"""Low-rank priors: mixtures along a few directions, and noise orthogonal to them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.test_prior import low_rank
from vae_runtime.latents import traversal

pytestmark = pytest.mark.torch_free

D, K = 40, 3
PRIOR = low_rank("gaussian", 1, 1, D, K)


def test_the_covariance_is_that_of_the_formula() -> None:
    assert PRIOR.directions is not None
    assert PRIOR.residual is not None
    assert PRIOR.cholesky is not None
    b, r = PRIOR.directions, np.diag(PRIOR.residual)
    lower = np.zeros((K, K))
    lower[np.tril_indices(K)] = PRIOR.cholesky[0, 0]
    expected = b.T @ lower @ lower.T @ b + r @ (np.eye(D) - b.T @ b) @ r
    z = PRIOR.sample(200_000, seed=1)
    np.testing.assert_allclose(np.cov(z.T), expected, atol=0.06)
    mean, std = PRIOR.spread()
    np.testing.assert_allclose(mean, z.mean(0), atol=0.02)
    np.testing.assert_allclose(std, np.sqrt(np.diag(expected)), rtol=1e-6)


def test_samples_do_not_depend_on_the_batch() -> None:
    whole = PRIOR.sample(50, seed=4)
    parts = [PRIOR.sample(n, seed=4, start=s) for s, n in ((0, 1), (1, 7), (8, 42))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_coordinates_have_the_stated_spread() -> None:
    assert PRIOR.directions is not None
    assert PRIOR.center is not None
    assert PRIOR.coordinates == K
    coordinates = (PRIOR.sample(100_000, seed=2) - PRIOR.center) @ PRIOR.directions.T
    mean, std = PRIOR.spread_of_coordinates()
    assert mean.shape == std.shape == (K,)
    np.testing.assert_allclose(coordinates.mean(0), mean, atol=0.02)
    # The noise has a small part along the directions, where its factors differ.
    np.testing.assert_allclose(coordinates.std(0), std, rtol=0.1)


def test_a_traversal_moves_along_one_direction() -> None:
    assert PRIOR.directions is not None
    assert PRIOR.center is not None
    start = PRIOR.sample(1, seed=3)[0]
    path = traversal(PRIOR, start, 1, 5, 2.0)
    assert path.shape == (5, D)
    assert path.dtype == np.float32
    coordinates = (path - PRIOR.center) @ PRIOR.directions.T
    mean, std = PRIOR.spread_of_coordinates()
    np.testing.assert_allclose(
        coordinates[:, 1], mean[1] + std[1] * np.linspace(-2, 2, 5), atol=1e-5
    )
    np.testing.assert_allclose(np.ptp(coordinates[:, [0, 2]], axis=0), 0, atol=1e-5)
    # All of the change is along that direction.
    steps = np.diff(path, axis=0)
    cosine = steps @ PRIOR.directions[1] / np.linalg.norm(steps, axis=1)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-5)
