"""How well a straight line through the latents tells the classes apart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MIN_A_CLASS = 10  # latents; a class with fewer is left out


class Probed(NamedTuple):
    """How well a probe did, 0 to 1, and among how many classes."""

    accuracy: float
    classes: int


def probe(latents: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Probed | None:
    """Accuracy of logistic regression from latents to labels, on latents that it was not fitted to.

    The mean over the classes, so that guessing scores 1 / classes however uneven they are.

    Args:
        latents: f32[N, D].
        labels: i64[N].
        seed: which half is fitted to.

    Returns:
        None with fewer than two classes of ten latents each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(labels, return_counts=True)
    judged = names[counts >= _MIN_A_CLASS]
    many = np.isin(labels, judged)
    if len(judged) < 2:
        return None
    fit_z, test_z, fit_y, test_y = train_test_split(
        latents[many], labels[many], test_size=0.5, stratify=labels[many], random_state=seed % 2**32
    )
    # A loose tolerance: accuracy settles long before the weights do.
    line = LogisticRegression(class_weight="balanced", max_iter=300, tol=1e-3)
    guess = make_pipeline(StandardScaler(), line).fit(fit_z, fit_y).predict(test_z)
    return Probed(float(balanced_accuracy_score(test_y, guess)), len(judged))


def readable(classes: int) -> float:
    """The accuracy from which labels count as readable: .3 of ten classes.

    Two ninths of the way from guessing (1 / classes) to knowing, for any number of classes.
    """
    return 1 / classes + (1 - 1 / classes) * 2 / 9
