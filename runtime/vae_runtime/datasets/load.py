"""Load the data set that `--data` names; every command reads its data here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bundle.spec import MODES
from ..errors import InputError, MissingExtra, NotFound, UsageError
from ..images import is_image
from .arrays import EXTENSIONS as ARRAYS
from .arrays import is_array_folder, load_arrays
from .dataset import Dataset, ReadOptions
from .downloads import load_download
from .folder import load_folder
from .idx import find_idx, load_idx
from .known import DOWNLOADS
from .layout import remedy

Log = Callable[[str], None]
NAMES = (*DOWNLOADS, "digits")
_DIGITS_TRAIN = 1500  # of 1,797; the rest is the test split


def load_dataset(
    source: str | Path,
    split: str = "train",
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    lazy: bool = False,
) -> Dataset:
    """Load one split of a data set.

    Args:
        source: `mnist` or `fashion` (downloaded once), `digits` (scikit-learn's 8x8 digits, no
            network), or the path of images, IDX files, arrays (`.npz`, `.npy`) or Parquet.
            docs/data.md describes the layouts.
        split: `train`, `test`, or `held_out`: the test split if there is one, else all images. Data
            without splits are training data.
        size: see `ReadOptions`.
        mode: see `ReadOptions`.
        lazy: see `ReadOptions`.

    Raises:
        NotFound: the data or the split does not exist.
        InputError: the data is malformed.
        UsageError: the data has another `size` or `mode` and does not consist of image files.
    """
    return read_split(source, split, ReadOptions(size, mode, lazy=lazy))


def load_held_out(source: str | Path, log: Log, options: ReadOptions) -> Dataset:
    """Load the test split, or all images if there is none; log what is left out, and the split.

    For the other arguments and the errors, see `load_dataset`.
    """
    data = read_split(source, "held_out", options)
    log_reading(source, data, log)
    if data.split == "train":
        log(f"{source}: no test split, so its training images are used")
    return data


def load_splits(
    source: str | Path, log: Log, options: ReadOptions, *, labelled: bool
) -> tuple[Dataset, Dataset | None]:
    """Load the training split and any test split; log what is left out, and the splits.

    Args:
        source: see `load_dataset`.
        log: receives a line for each split, unless there is nothing to say.
        options: how to read; the test images get the mode of the training images.
        labelled: whether the labels are needed: test images without a known label are left out.

    Raises:
        NotFound, InputError, UsageError: see `load_dataset`.
    """
    data = read_split(source, "train", options)
    log_reading(source, data, log)
    try:
        mode = MODES.get(data.image_shape[0])
        test = read_split(source, "test", replace(options, mode=mode))
    except NotFound:
        return data, None
    known = _of_known_classes(test, data, labelled=labelled)
    notes = [note for note in test.notes if note not in data.notes]
    unknown = len(test) - (0 if known is None else len(known))
    if unknown and test.labels is None:
        notes.append(f"{unknown:,} are not used, as they have no labels")
    elif unknown:
        names = ", ".join(test.classes[len(data.classes) :])
        notes.append(f"{unknown:,} are not used: classes that the training data lacks ({names})")
    log_reading(source, replace(test, notes=tuple(notes)), log)
    return data, known


def log_reading(source: str | Path, data: Dataset, log: Log) -> None:
    """Log one line with the split that was read and what was left out or changed, if anything."""
    if data.part or data.notes:
        count = f"{len(data):,} image{'' if len(data) == 1 else 's'}"
        part = f" of {data.part}" if data.part else ""
        log(f"{source}: {'; '.join((count + part, *data.notes))}")


def _of_known_classes(test: Dataset, training: Dataset, *, labelled: bool) -> Dataset | None:
    """Return the test images whose classes the training data has, or None if there are none."""
    if training.labels is None or (test.labels is None and not labelled):
        return test
    if test.labels is None:
        return None
    known = np.flatnonzero(test.labels < len(training.classes))
    if not len(known):
        return None
    # The classes of the training data come first, so that the others can be cut off.
    return replace(test.take(known), classes=training.classes)


def read_split(source: str | Path, split: str, options: ReadOptions) -> Dataset:
    """Load one split of a data set; see `load_dataset`."""
    if split not in ("train", "test", "held_out"):
        raise UsageError(f"split is {split!r}, expected 'train', 'test' or 'held_out'")
    size, mode = options.size, options.mode
    if mode not in (None, *MODES.values()):
        raise UsageError(f"mode is {mode!r}, expected one of {', '.join(MODES.values())}")
    data = _open(source, split, options)
    if options.limit is not None:
        data = data.take(slice(options.limit))
    data = data if options.lazy else data.read()
    channels, *seen = data.image_shape
    if (size and tuple(seen) != size) or (mode and mode != MODES.get(channels)):
        wanted = [*(("x".join(map(str, size)),) if size else ()), *((mode,) if mode else ())]
        raise UsageError(
            f"{source}: images are {data.image_shape} (C, H, W), expected {' '.join(wanted)}; "
            "only image files can be changed"
        )
    return data


def _open(source: str | Path, split: str, options: ReadOptions) -> Dataset:
    """Read the data with the reader of its format."""
    path = Path(source)
    if source in NAMES:
        return _load_named(str(source), split)
    extension = path.suffix.lower()
    if extension in ARRAYS and path.is_file():
        return load_arrays(path, split, options)
    if extension == ".parquet" or (path.is_dir() and _holds_parquet(path)):
        from .parquet import load_parquet  # pyarrow belongs to an extra

        return load_parquet(str(source), split, options)
    found = find_idx(path)
    if found is not None:
        return load_idx(found, split, lazy=options.lazy)
    if path.is_dir():
        if is_array_folder(path) and not any(is_image(file) for file in path.rglob("*")):
            return load_arrays(path, split, options)
        return load_folder(path, split, options)
    if path.exists():
        expected = "a folder of images" if is_image(path) else "images, arrays or Parquet"
        raise InputError(f"{path}: a single file, expected {expected}. {remedy([path.name])}")
    if is_image(path) or extension in ARRAYS:
        raise NotFound(f"{path}: no such file")
    raise NotFound(f"{path}: no such data. Expected {', '.join(NAMES)}, or the path of images, IDX "
                   "files, arrays (.npz, .npy) or Parquet")  # fmt: skip


def _holds_parquet(folder: Path) -> bool:
    return any(any(folder.glob(f"{below}*.parquet")) for below in ("", "*/", "*/*/"))


def _load_named(name: str, split: str) -> Dataset:
    """Load a data set by its name, even if there is a folder of that name."""
    split = "train" if split == "train" else "test"
    data = load_download(DOWNLOADS[name], split) if name in DOWNLOADS else _load_digits(split)
    part = "the training split" if split == "train" else "the test split"
    # A bundle is often named after its data set.
    hidden = Path(name).exists() and not Path(name, "manifest.json").exists()
    notes = (f"the path ./{name} is not used; to use it, write ./{name}",) if hidden else ()
    return replace(data, name=name, split=split, part=part, notes=notes)


def _load_digits(split: str) -> Dataset:
    """Load 8x8 digits with 17 grey levels (Alpaydin & Kaynak 1998), scaled to 0 to 255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra(
            "digits: needs scikit-learn, not installed here. Run: pip install scikit-learn"
        ) from error
    found: Any = load_digits(return_X_y=True)  # scikit-learn's stubs allow data frames, too
    pixels, labels = found
    rows = slice(None, _DIGITS_TRAIN) if split == "train" else slice(_DIGITS_TRAIN, None)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = tuple(str(k) for k in range(10))
    return Dataset("digits", images[rows], labels[rows].astype(np.int64), names)
