"""Load the data set that `--data` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import MissingExtra, NotFound, UsageError
from .dataset import Dataset
from .folder import load_folder
from .idx import is_idx_folder, load_idx
from .mnist import load_mnist
from .npz import load_npz

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
        source: `mnist` (downloaded once), `digits` (scikit-learn's 8x8 digits, no network), a
            folder with IDX files, a folder of images with one sub-folder per class, an `.npz`, or
            Parquet: a file, a folder of files or a glob.
        split: `train` or `test`.
        size: (H, W) to resize image files to; other data must have this size already.
        mode: `L` or `RGB` to convert image files to; other data must have this mode already.
        lazy: read the images of Parquet and of uncompressed IDX files on demand.

    Raises:
        NotFound: the data or the split does not exist.
        InputError: the data is malformed.
        UsageError: arrays or IDX files have a different `size` or `mode`.
    """
    if split not in ("train", "test"):
        raise UsageError(f"split is {split!r}, expected 'train' or 'test'")
    if mode not in (None, "L", "RGB"):
        raise UsageError(f"mode is {mode!r}, expected 'L' or 'RGB'")
    data = _load(source, split, size, mode, lazy=lazy)
    data = data if lazy else data.read()
    channels, *seen = data.image_shape
    if (size and tuple(seen) != size) or (mode and channels != {"L": 1, "RGB": 3}[mode]):
        wanted = [*(("x".join(map(str, size)),) if size else ()), *((mode,) if mode else ())]
        raise UsageError(
            f"{source}: images are {data.image_shape} (C, H, W), expected {' '.join(wanted)}; "
            "only image files can be changed"
        )
    return data


def load_held_out(
    source: str | Path,
    log: Callable[[str], None],
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
) -> Dataset:
    """Load the test split; if there is none, log that and load the training images.

    `log` receives one line. For the other arguments and the errors, see `load_dataset`.
    """
    data = load_test(source, size=size, mode=mode)
    if data is None:
        data = load_dataset(source, "train", size=size, mode=mode)
        log(f"{source}: no test split, so its training images are used")
    return data


def load_test(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    lazy: bool = False,
) -> Dataset | None:
    """Load the test split, or return None if there is none; see `load_dataset`."""
    try:
        return load_dataset(source, "test", size=size, mode=mode, lazy=lazy)
    except NotFound:
        return None


def _load(
    source: str | Path, split: str, size: tuple[int, int] | None, mode: str | None, *, lazy: bool
) -> Dataset:
    if source in ("mnist", "digits"):
        return load_mnist(split) if source == "mnist" else _load_digits(split)
    path = Path(source)
    if path.is_dir():
        if is_idx_folder(path):
            return load_idx(path, split, lazy=lazy)
        if not _holds_parquet(path):
            return load_folder(path, split, size=size, mode=mode)
    if path.suffix.lower() == ".npz":
        return load_npz(path, split)
    if path.suffix.lower() == ".parquet" or path.is_dir():
        from .parquet import load_parquet  # pyarrow belongs to an extra

        return load_parquet(str(source), split, size=size, mode=mode)
    raise NotFound(
        f"{path}: no such data. Expected mnist, digits, a folder of IDX files or images, an .npz "
        "or Parquet"
    )


def _holds_parquet(folder: Path) -> bool:
    return any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))


def _load_digits(split: str) -> Dataset:
    """Load 8x8 digits with 17 grey levels (Alpaydin & Kaynak 1998), scaled to 0 to 255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra(
            "digits: needs scikit-learn, not installed here. Run: pip install scikit-learn"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    rows = slice(None, _DIGITS_TRAIN) if split == "train" else slice(_DIGITS_TRAIN, None)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = tuple(str(k) for k in range(10))
    return Dataset("digits", images[rows], labels[rows].astype(np.int64), names)
