"""Turn the labels that people store into class indices and class names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

_INTEGER = re.compile(r"-?[0-9]+")
_IDENTIFIERS = 20  # so many labels that all differ are not taken for classes


class UnusableLabels(ValueError):
    """Labels that do not name one class per image; the message is the reason."""


def sort_names(names: Iterable[str]) -> tuple[str, ...]:
    """Sort distinct class names: by value if all are integers, else as text."""
    distinct = set(names)
    if all(_INTEGER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def index_labels(
    labels: NDArray[Any],
    others: Iterable[NDArray[Any]] = (),
    names: tuple[str, ...] = (),
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Convert labels to class indices i64[N].

    Args:
        labels: integers, whole floats, booleans or text as [N] or [N, 1], or one-hot rows [N, K].
        others: the labels of other splits; the classes are the distinct labels of all splits. A
            split whose labels are all -1, as hidden test labels are, does not count.
        names: the name of each class, if known: integer labels are indices into it.

    Returns:
        The indices and the class names: `names`, or else the distinct labels as text.

    Raises:
        UnusableLabels: the labels do not name one class per image.
        InputError: a label is not in `names`.
    """
    values = _flatten(labels)
    distinct, inverse = np.unique(values, return_inverse=True)
    if len(values) == len(distinct) >= _IDENTIFIERS:
        raise UnusableLabels(f"{len(values):,} different values for as many images")
    found = [str(value) for value in distinct.tolist()]
    if found == ["-1"]:
        raise UnusableLabels("-1 everywhere, which means unknown")
    if names and values.dtype.kind != "U":
        if len(distinct) and not 0 <= distinct[0] <= distinct[-1] < len(names):
            raise InputError(
                f"labels run from {distinct[0]} to {distinct[-1]}, expected 0 to {len(names) - 1}"
            )
        return values.astype(np.int64), names
    known = set(found)
    for other in others:
        present = {str(value) for value in np.unique(_flatten(other)).tolist()}
        known |= present if present != {"-1"} else set()
    classes = names or sort_names(known)
    index = {name: k for k, name in enumerate(classes)}
    unknown = [name for name in found if name not in index]
    if unknown:
        raise InputError(f"label {unknown[0]!r} is not one of the classes {', '.join(classes)}")
    return np.array([index[name] for name in found], np.int64)[inverse.reshape(-1)], classes


def _flatten(labels: NDArray[Any]) -> NDArray[Any]:
    """Convert labels to integers or text [N]."""
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "latin1")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "fiub":
        if not ((labels == 0) | (labels == 1)).all() or (labels.sum(axis=1) != 1).any():
            raise UnusableLabels(f"{labels.shape[1]} numbers per image, not one class")
        labels = labels.argmax(axis=1)
    if labels.ndim != 1:
        raise UnusableLabels(f"an array {list(labels.shape)}, not one class per image")
    if labels.dtype.kind == "b":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
            raise UnusableLabels("numbers that are not whole")
        return labels.astype(np.int64)
    if labels.dtype.kind not in "iuU":
        raise UnusableLabels(f"{labels.dtype}, not integers or names")
    return labels
