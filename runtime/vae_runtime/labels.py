"""Check labels (a class index or name, or one per item) once and convert them to indices."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union

import numpy as np

from .arrays import as_array
from .errors import InputError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Labels: TypeAlias = Union[int, str, Sequence[int | str], "NDArray[Any]", None]
"""What callers may pass: a class index, a class name, a sequence of either, or None."""


Indices: TypeAlias = Union[int, "NDArray[np.int64]", None]
"""Checked labels: one class index for all items, i64[n], or None for no label."""


class Classes(Protocol):
    """What labels are checked against; a `ModelSpec` is one."""

    @property
    def family(self) -> str:
        """The model's family, for error messages."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; empty if the model takes no label."""
        ...


def check_labels(label: Labels, n: int | None, spec: Classes) -> Indices:
    """Convert labels to class indices: one index for all items, i64[n], or None for no label.

    Args:
        label: a class index or name, a sequence of n indices or names, or None.
        n: number of items; None for an endless stream.
        spec: the model that defines the classes.

    Raises:
        UsageError: the model takes no label, a class name is unknown, or several labels were
            passed for an endless stream.
        InputError: an index is out of range, or the dtype or number of labels is wrong.
    """
    if label is None:
        return None
    if isinstance(label, (int, str, np.integer)):
        return label_index(label, spec)
    if n is None:
        raise UsageError("an endless stream takes a single label")
    items = _label_array(label, spec, n)
    if items.shape != (n,):
        advice = f". To sample one of each, pass n={len(items)}." if len(items) else ""
        raise InputError(
            f"label: {len(items)} labels for {n} item{'s' * (n != 1)}, expected one for all or one "
            f"per item{advice}"
        )
    return items


def label_index(label: int | str | np.integer[Any], spec: Classes) -> int:
    """Return the class index of one label.

    Raises:
        UsageError, InputError: see `check_labels`.
    """
    if type(label) is not int or not spec.classes:
        return int(_label_array([label], spec, 1)[0])
    if not 0 <= label < len(spec.classes):
        raise _out_of_range(label, len(spec.classes))
    return label


def _label_array(labels: Any, spec: Classes, n: int) -> NDArray[np.int64]:
    """Convert class indices or names to checked indices i64[n]."""
    classes = spec.classes
    if not classes:
        raise UsageError(f"this {spec.family} takes no label")
    items = as_array(labels, "label")
    if items.dtype.kind == "U":
        items = np.array([class_index(str(name), classes) for name in items.ravel()], np.int64)
    if not items.size and items.ndim == 1:
        return np.zeros(0, np.int64)
    if items.dtype.kind not in "iu" or items.ndim != 1 or not items.dtype.isnative:
        given = f"{items.dtype}{list(items.shape)}" if isinstance(labels, np.ndarray) else labels
        raise InputError(
            f"label: {str(given)[:80]}, expected a class index or name, or int64[{n}], one per item"
        )
    if len(items) and (items.min() < 0 or items.max() >= len(classes)):
        wrong = items.min() if items.min() < 0 else items.max()
        raise _out_of_range(wrong, len(classes))
    return items.astype(np.int64)


def label_rows(label: Indices, n: int, classes: int) -> NDArray[np.int64]:
    """Return checked labels as i64[n] for a graph; the index `classes` means no label."""
    if isinstance(label, np.ndarray):
        return label
    index = classes if label is None else label
    return _every_index(classes)[index : index + 1] if n == 1 else np.full(n, index, np.int64)


def as_labels(label: Labels, n: int, spec: Classes) -> NDArray[np.int64]:
    """Convert labels to indices i64[n]; None becomes the index that means no label.

    Raises:
        UsageError, InputError: see `check_labels`.
    """
    return label_rows(check_labels(label, n, spec), n, len(spec.classes))


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class, given its name or its index as text.

    Raises:
        UsageError: the name is unknown; the message lists the known names.
        InputError: the index has 19 digits or more.
    """
    if not classes:
        raise UsageError(f"label: {name!r}, but there are no class names here. Pass an index.")
    if name in classes:
        return classes.index(name)
    if name.isascii() and name.isdigit():
        if len(name) < 19:  # always fits an int64, and int() refuses thousands of digits
            return int(name)
        raise _out_of_range(name if len(name) <= 20 else f"{name[:20]}…", len(classes))
    known = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    several = ". For several, repeat --label, or pass a list in Python" if "," in name else ""
    raise UsageError(f"label: unknown class {name!r}, expected one of: {known}{several}")


@cache
def _every_index(classes: int) -> NDArray[np.int64]:
    """Return i64[classes + 1], read-only: all class indices, then the index that means no label."""
    indices = np.arange(classes + 1, dtype=np.int64)
    indices.flags.writeable = False
    return indices


def _out_of_range(index: object, classes: int) -> InputError:
    return InputError(f"label: {index} is out of range, expected 0 to {classes - 1}")
