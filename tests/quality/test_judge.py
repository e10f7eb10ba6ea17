"""Fréchet distance, precision and recall in cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.quality.judge import frechet, precision_recall


def test_the_distance_of_a_set_to_itself_is_zero() -> None:
    features = np.random.default_rng(0).standard_normal((500, 6))
    assert frechet(features, features) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_a_shift_and_of_a_scaling() -> None:
    features = np.random.default_rng(0).standard_normal((500, 6))
    # Means differ by 3 in each of 6 dimensions: 6 · 3².
    assert frechet(features, features + 3) == pytest.approx(54, rel=1e-9)
    # Twice as wide: Σ + 4Σ - 2·2Σ = Σ.
    centred = features - features.mean(0)
    expected = np.trace(np.cov(centred, rowvar=False))
    assert frechet(centred, 2 * centred) == pytest.approx(expected, rel=1e-6)


def test_a_missing_mode_lowers_recall_but_not_precision() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((2, 300, 2)) + np.array([[[-50, 0]], [[50, 0]]])
    real = np.concatenate([left, right])
    # Fakes from one half only: all are realistic, and they cover half of the real ones.
    precision, recall = precision_recall(real, rng.permutation(left)[:200])
    assert precision == 1
    assert 0.4 < recall <= 0.5
    # Fakes far from every real one.
    assert precision_recall(real, real + 1000) == (0, 0)
