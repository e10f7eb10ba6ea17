"""The names by which people tell splits, images and labels apart, in folders, files and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SPLITS = {
    "train": {"train", "training", "trn"},
    "val": {"val", "valid", "validation", "validating", "dev", "eval", "holdout"},
    "test": {"test", "testing", "tst"},
}
# Words that add nothing to the name of a split: `train_images`, `TestSet`, `val2017`.
_FILLERS = {
    "set", "images", "image", "imgs", "img", "data", "dataset", "split", "folder", "samples",
    "pictures", "photos", "of",
}  # fmt: skip
# Files that are not read, because they need a library or may run code, and how to bring them.
_SAVE = "and save images and labels with numpy.savez('data.npz', images=..., labels=...)."
_REMEDIES = {
    r"\.(zip|tar|gz|tgz|7z|rar)$": "Unpack it and use the folder.",
    r"\.(csv|tsv|txt)$": f"Read tables with numpy.loadtxt, {_SAVE}",
    r"\.mat$": f"Read .mat with scipy.io.loadmat, {_SAVE}",
    r"\.(h5|hdf5)$": f"Read HDF5 with h5py, {_SAVE}",
    r"\.(pkl|pickle|pt|pth)$|data_batch": f"Load pickles, which may run code, yourself, {_SAVE}",
    r"\.arrow$": "Save the data set with its method to_parquet.",
    r"\.tfrecord": f"Read it with tensorflow, {_SAVE}",
    r"\.(heic|heif|avif|jp2|svg|nef|cr2|dng|arw)$": "Convert the images to PNG or JPEG.",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def words(name: str) -> list[str]:
    """Split a name into its lower-case words and numbers: `X_train` → x, train."""
    return [word.lower() for word in _WORD.findall(name)]


def split_of(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the split that a name stands for, and the words that tell several data sets apart.

    The split is `train`, `val` or `test`, or empty if the name stands for none.
    """
    found = words(name)
    for split, synonyms in _SPLITS.items():
        if synonyms.intersection(found):
            rest = (w for w in found if not (w in synonyms | _FILLERS or w.isdecimal()))
            return split, tuple(rest)
    return "", ()


def choose_split(wanted: str, present: Iterable[str]) -> str | None:
    """Return the stored split to use, if there is one.

    `test` is the split `val` if there is no `test`; `held_out` is `test`, or else `train`.
    """
    stored = set(present)
    order = {"train": ["train"], "test": ["test", "val"], "held_out": ["test", "val", "train"]}
    return next((split for split in order[wanted] if split in stored), None)


def remedy(names: Iterable[str]) -> str:
    """Return how to bring files that are not read, given their names or extensions."""
    for name in names:
        for pattern, advice in _REMEDIES.items():
            if re.search(pattern, name.lower()):
                return advice
    return ""
