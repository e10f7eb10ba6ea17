"""A Gaussian likelihood with a learned scale, as the spec stores it and `score` uses it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.errors import InputError
from vae_runtime.metrics import negative_log_likelihood
from vae_runtime.prior import Prior

pytestmark = pytest.mark.torch_free

SPEC = ModelSpec("id", "vae", ImageSpec(1, 4, 5), (2,), (), "gaussian", Prior.normal(2), 0.125)


def test_the_negative_log_likelihood_follows_the_formula(rng: np.random.Generator) -> None:
    decoded, images = rng.random((2, 3, 1, 4, 5), np.float32)
    found = negative_log_likelihood(decoded, images, "gaussian", 0.1)
    error = np.square(decoded.astype(np.float64) - images).sum((1, 2, 3))
    np.testing.assert_allclose(found, error / 0.02 + 10 * np.log(2 * np.pi * 0.01))


def test_without_a_scale_it_is_the_squared_error(rng: np.random.Generator) -> None:
    decoded, images = rng.random((2, 3, 1, 4, 5), np.float32)
    found = negative_log_likelihood(decoded, images, "gaussian")
    np.testing.assert_allclose(found, np.square(decoded - images).sum((1, 2, 3)), rtol=1e-6)


def test_the_scale_is_stored_in_the_spec() -> None:
    again = ModelSpec.from_json(json.loads(json.dumps(SPEC.to_json())), "spec")
    assert again.sigma == 0.125
    assert again.to_json() == SPEC.to_json()


def test_a_spec_without_a_scale_has_no_such_field() -> None:
    without = replace(SPEC, sigma=None)
    assert "sigma" not in without.to_json()
    assert ModelSpec.from_json(without.to_json(), "spec").sigma is None


@pytest.mark.parametrize(
    "change",
    [
        {"sigma": 0.0},
        {"sigma": -0.1},
        {"sigma": float("nan")},
        {"sigma": float("inf")},
        {"sigma": "0.1"},
        {"sigma": None},
        {"sigma": True},
        {"likelihood": "bernoulli"},
    ],
)
def test_a_wrong_scale_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="sigma"):
        ModelSpec.from_json(SPEC.to_json() | change, "spec")
