"""scikit-learn's digits, which need no network."""

from __future__ import annotations

import numpy as np
import pytest

from vae_runtime.datasets import load_dataset

pytest.importorskip("sklearn")


def test_the_splits_are_all_1797_digits() -> None:
    train, test = load_dataset("digits"), load_dataset("digits", "test")
    assert (len(train), len(test)) == (1500, 297)
    assert train.image_shape == test.image_shape == (1, 8, 8)
    assert train.classes == test.classes == tuple("0123456789")
    assert train.labels is not None
    assert test.labels is not None
    assert set(train.labels.tolist()) == set(test.labels.tolist()) == set(range(10))


def test_17_grey_levels_fill_the_range_of_bytes() -> None:
    images = load_dataset("digits").images
    assert images.dtype == np.uint8
    assert np.array_equal(np.unique(images), np.rint(np.arange(17) * 255 / 16))


def test_the_first_digit_is_the_known_zero() -> None:
    data = load_dataset("digits")
    assert data.labels is not None
    assert data.labels[:4].tolist() == [0, 1, 2, 3]
    row = np.rint(np.array([0, 0, 5, 13, 9, 1, 0, 0]) * 255 / 16)
    assert np.array_equal(data.images[0, 0, 0], row)


def test_a_size_cannot_be_requested() -> None:
    with pytest.raises(ValueError, match="only image files can be changed"):
        load_dataset("digits", size=(28, 28))
