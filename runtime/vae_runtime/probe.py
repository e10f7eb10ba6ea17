"""What features are worth: how well simple classifiers predict labels from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .dependencies import require
from .errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_IMAGES = 5000
_FOLDS = 5
_NEIGHBOURS = 10


class Accuracy(NamedTuple):
    """The accuracy of two classifiers on images that they were not fitted to, 0 to 1.

    Attributes:
        dimensions: how many numbers describe an image.
        linear: of logistic regression on standardised features, a linear probe
            (Alain & Bengio 2016, arXiv 1610.01644).
        neighbours: of a vote among the ten nearest images.
    """

    dimensions: int
    linear: float
    neighbours: float


def probe(
    features: Mapping[str, NDArray[Any]], labels: Sequence[object], seed: int = 0
) -> dict[str, Accuracy]:
    """Measure features by five-fold cross-validation, all of them on the same folds.

    Args:
        features: arrays [N, …] by name; at most 5,000 rows, evenly spaced, are used.
        labels: the class of each row.
        seed: of the folds.

    Raises:
        InputError: fewer than two classes, or a class with fewer than five rows.
        MissingExtra: scikit-learn is not installed.
    """
    require("a probe of latents", "sklearn", extra="cpu,detect")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.linspace(0, len(labels) - 1, min(len(labels), MAX_IMAGES)).astype(np.int64)
    names, classes = np.unique(np.asarray(labels)[rows], return_inverse=True)
    fewest = int(np.bincount(classes).min())
    if len(names) < 2 or fewest < _FOLDS:
        raise InputError(
            f"{len(names)} classes with at least {fewest} images each, expected two or more "
            f"classes with {_FOLDS} or more"
        )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, tol=1e-2))
    nearest = KNeighborsClassifier(min(_NEIGHBOURS, fewest))
    found = {}
    for name, values in features.items():
        x = np.asarray(values, np.float64)[rows].reshape(len(rows), -1)
        scores = (cross_val_score(one, x, classes, cv=folds).mean() for one in (linear, nearest))
        found[name] = Accuracy(x.shape[1], *map(float, scores))
    return found


def principal_components(images: NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    """Project images [N, …] to their first principal components, f64[N, ≤ dimensions]."""
    require("principal components", "sklearn", extra="cpu,detect")
    from sklearn.decomposition import PCA

    flat = np.asarray(images, np.float64).reshape(len(images), -1)
    found: NDArray[np.float64] = PCA(min(dimensions, *flat.shape), random_state=0).fit_transform(
        flat
    )
    return found
