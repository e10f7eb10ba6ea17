"""Read data sets from `.npz` and `.npy` files, and from folders of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFound
from ..files.npz import NUMBERS, TEXT, read_npy, read_npz
from ..files.reading import read_bytes
from .classes import UnusableLabels, index_labels
from .dataset import MAX_BYTES, Dataset, ReadOptions
from .layout import choose_split, split_of, words
from .pixels import to_bytes

EXTENSIONS = (".npz", ".npy")
# Names of arrays as Keras, Hugging Face, MedMNIST, dSprites and others write them, in words; where
# several arrays have a role, the first name counts.
_ROLES = {
    "images": ("images", "image", "imgs", "img", "x", "pixels", "pixel values", "data"),
    "labels": ("labels", "label", "y", "targets", "target", "fine labels", "fine label",
               "latents classes"),
    "classes": ("classes", "class names", "label names"),
}  # fmt: skip
_SHOWN = 8  # names of arrays in a message


@dataclass
class Arrays:
    """The arrays of a data set by role and split, such as `images` and `train`.

    Attributes:
        path: the file or folder.
        found: the name and values of each array that is used.
        left_out: the names of the other arrays.
    """

    path: Path
    found: dict[tuple[str, str], tuple[str, NDArray[Any]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def all(self, role: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one role by split."""
        return {split: found[1] for (one, split), found in self.found.items() if one == role}


def load_arrays(path: Path, split: str, options: ReadOptions) -> Dataset:
    """Read an `.npz`, an `.npy` with any labels in a file beside it, or a folder of these.

    The names of the arrays tell images, labels, class names and splits apart, as in `x_train` or
    `test_images`. If no name does, the only array of three or four dimensions is the images. The
    classes are the distinct labels of all splits.

    Raises:
        NotFound: the file does not exist, or has no images for this split.
        FileError: the file cannot be read.
        InputError: the images or labels are not plain arrays or have a wrong dtype, shape or range.
        LimitError: the arrays exceed 4 GiB.
    """
    arrays = _sort(path, *_read(path))
    stored = arrays.all("images")
    chosen = choose_split(split, stored)
    if chosen is None:
        names = ", ".join(name for name, _ in arrays.found.values())
        raise NotFound(f"{path}: no images for the {split} split; it has {names}")
    alpha = options.alpha or options.mode in ("LA", "RGBA")
    images, notes = to_bytes(stored[chosen], str(path), options.size, alpha=alpha)
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    if ("labels", chosen) in arrays.found:
        name, values = arrays.found["labels", chosen]
        try:
            labels, classes = _index(arrays, values, len(images))
        except UnusableLabels as error:
            notes.append(f"no labels, as {name} holds {error}")
    if chosen != "val" and {"val", "test"} <= set(stored):
        name, values = arrays.found["images", "val"]
        arrays.left_out.append(f"{len(values):,} in {name}")
    if arrays.left_out:
        notes.insert(0, f"left out: {_shorten(arrays.left_out)}")
    part = arrays.found["images", chosen][0] if len(stored) > 1 else ""
    return Dataset(path.resolve().stem, images, labels, classes, None, chosen, part, tuple(notes))


def is_array_folder(folder: Path) -> bool:
    """Return whether the folder has `.npz` or `.npy` files."""
    return bool(_files(folder))


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")
    )


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, InputError]]:
    """Read the arrays of a file or folder by name, and the errors of those that are not plain."""
    if path.is_dir():
        arrays: dict[str, NDArray[Any]] = {}
        refused: dict[str, InputError] = {}
        for file in _files(path):
            found, bad = _read_file(file)
            arrays |= found
            refused |= bad
        return arrays, refused
    arrays, refused = _read_file(path)
    if len(arrays) == 1:
        (stem,) = arrays
        role, rest = _role(stem)
        beside = [f for f in _files(path.parent) if f != path and _role(f.stem) == ("labels", rest)]
        if role != "labels" and len(beside) == 1:
            arrays |= _read_file(beside[0])[0]
    return arrays, refused


def _read_file(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, InputError]]:
    raw = read_bytes(path, max_bytes=MAX_BYTES)
    if path.suffix.lower() == ".npy":
        return {path.stem: read_npy(raw, str(path))}, {}
    refused: dict[str, InputError] = {}
    arrays = read_npz(raw, str(path), NUMBERS + TEXT + "S", MAX_BYTES, refused=refused)
    if list(arrays) == ["arr_0"]:  # the name that NumPy gives
        arrays = {path.stem: arrays["arr_0"]}
    return arrays, refused


def _role(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the role of an array, empty if unknown, and the words of its name without the role."""
    found = words(name)
    known = [
        (len(synonym.split()), role, synonym)
        for role, synonyms in _ROLES.items()
        for synonym in synonyms
        if set(synonym.split()) <= set(found)
        # One letter is a role only on its own or with a split: `x_train`, but not `grid_x`.
        and (len(synonym) > 1 or found == [synonym] or split_of(name)[1] == (synonym,))
    ]
    if not known:
        return "", tuple(found)
    _, role, synonym = max(known, key=lambda one: one[0])
    return role, tuple(word for word in found if word not in synonym.split())


def _sort(path: Path, named: dict[str, NDArray[Any]], refused: dict[str, InputError]) -> Arrays:
    """Find the role and the split of each array.

    Raises:
        NotFound: no array is the images.
        InputError: more than one array could be the images, or they are not plain numbers.
    """
    arrays = Arrays(path)
    # The only split of a file is used whatever it is called.
    alone = not path.is_dir() and len({split_of(name)[0] for name in named}) == 1
    for name, array in named.items():
        role, split = _role(name)[0], "train" if alone else split_of(name)[0] or "train"
        if not role:
            arrays.left_out.append(name)
            continue
        first = arrays.found.get((role, split), (name,))[0]
        if first != name and _rank(role, first) == _rank(role, name):
            raise InputError(
                f"{path}: {first} and {name} could both be the {role} of one data set. Remove or "
                "rename one."
            )
        if first == name or _rank(role, name) < _rank(role, first):
            arrays.found[role, split] = (name, array)
        if first != name:
            arrays.left_out.append(max(first, name, key=lambda one: _rank(role, one)))
    if not arrays.all("images"):
        _guess(arrays, named, refused)
    for name, error in refused.items():
        reason = str(error).rpartition(": ")[2].partition(",")[0]
        arrays.left_out.append(f"{name} ({reason})")
    return arrays


def _rank(role: str, name: str) -> tuple[bool, int]:
    """Return whether a name has words besides its role and split, and the position of the role."""
    found = set(words(name))
    position, synonym = next(
        (k, known) for k, known in enumerate(_ROLES[role]) if set(known.split()) <= found
    )
    split, rest = split_of(name)
    return bool(set(rest if split else found) - set(synonym.split())), position


def _guess(arrays: Arrays, named: dict[str, NDArray[Any]], refused: dict[str, InputError]) -> None:
    """Take the only array that has the dimensions of images, and one number per image as labels."""
    path = arrays.path
    for name, error in refused.items():
        if _role(name)[0] == "images":
            raise error
    likely = [name for name in arrays.left_out if named[name].ndim in (3, 4)]
    likely = likely if len(likely) == 1 or len(named) > 1 else arrays.left_out
    if len(likely) != 1:
        names = _shorten([*named, *refused]) or "none"
        raise NotFound(
            f"{path}: no array of images; it has {names}. Call the images `images` and their "
            "labels `labels`."
        )
    (name,) = likely
    arrays.found["images", "train"] = (name, named[name])
    arrays.left_out.remove(name)
    n = len(named[name])
    labels = [other for other in arrays.left_out if named[other].shape in ((n,), (n, 1))]
    if len(labels) == 1 and not arrays.all("labels"):
        arrays.found["labels", "train"] = (labels[0], named[labels[0]])
        arrays.left_out.remove(labels[0])


def _index(
    arrays: Arrays, values: NDArray[Any], n: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Convert the labels of `n` images to indices and class names."""
    path = arrays.path
    if len(values) != n:
        raise InputError(f"{path}: {len(values)} labels for {n} images")
    names: tuple[str, ...] = ()
    for stored in arrays.all("classes").values():
        if stored.ndim != 1:
            raise InputError(f"{path}: classes are {list(stored.shape)}, expected one name each")
        names = tuple(str(name) for name in stored)
    try:
        return index_labels(values, arrays.all("labels").values(), names)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if names[_SHOWN:] else "")
