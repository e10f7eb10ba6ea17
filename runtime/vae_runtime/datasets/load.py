"""From what the user typed after `--data` to a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import MissingExtra, NotFound, UsageError
from .arrays import load_npz
from .dataset import Dataset
from .folder import load_folder
from .idx import is_idx_folder, load_idx
from .mnist import load_mnist

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
            folder with IDX files, a folder of images with one sub-folder a class, an `.npz`, or
            Parquet: a file, a folder of them or a glob.
        split: `train` or `test`.
        size: (H, W) to resize image files to; what other data must have.
        mode: `L` or `RGB` to convert image files to; what other data must have.
        lazy: leave the images of Parquet and of plain IDX files where they are until they are used.

    Raises:
        NotFound: no such data, or no such split.
        InputError: the data is malformed.
        UsageError: arrays or IDX files that are not of the `size` or `mode` asked for.
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
    say: Callable[[str], None],
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
) -> Dataset:
    """Load images that nothing was trained on: the test split, or all there is where there is none.

    Args:
        source: as of `load_dataset`, which raises what is wrong with it.
        say: called with a line where there is no test split.
        size: likewise.
        mode: likewise.
    """
    data = load_test(source, size=size, mode=mode)
    if data is None:
        data = load_dataset(source, "train", size=size, mode=mode)
        say(f"{source}: no test split, its training images are taken")
    return data


def load_test(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    mode: str | None = None,
    lazy: bool = False,
) -> Dataset | None:
    """The test split, or None where there is none; arguments as of `load_dataset`."""
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
        from .parquet import load_parquet  # pyarrow is one of an extra's packages

        return load_parquet(str(source), split, size=size, mode=mode)
    raise NotFound(
        f"{path}: no such data. Expected mnist, digits, a folder of IDX files or images, an .npz "
        "or Parquet"
    )


def _holds_parquet(folder: Path) -> bool:
    return any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet"))


def _load_digits(split: str) -> Dataset:
    """8x8 digits with 17 grey levels (Alpaydin & Kaynak 1998), scaled to bytes."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra(
            "digits: they come with scikit-learn, not installed here. Run: pip install scikit-learn"
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    part = slice(None, _DIGITS_TRAIN) if split == "train" else slice(_DIGITS_TRAIN, None)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    names = tuple(str(k) for k in range(10))
    return Dataset("digits", images[part], labels[part].astype(np.int64), names)
