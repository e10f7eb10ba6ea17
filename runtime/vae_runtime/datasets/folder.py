"""A folder of images with one sub-folder a class, and `.npz` files of arrays."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFound
from ..images import EXTENSIONS, read_image
from .dataset import Dataset


def load_folder(
    folder: Path, split: str, size: tuple[int, int] | None = None, mode: str | None = None
) -> Dataset:
    """Read `FOLDER/CLASS/*.png` (or .jpg .jpeg .webp .bmp); classes in the order of their names.

    With `FOLDER/train` and `FOLDER/test` the split picks one of them; otherwise everything is
    training data. Images without a class folder make a data set without labels.

    Args:
        folder: where the images are.
        split: `train` or `test`.
        size: (H, W) to resize every image to; None demands that they agree.
        mode: `L` or `RGB`; None keeps grey where the first image is grey.

    Raises:
        NotFound: no image there, or no test split.
        InputError: an image that cannot be read, or one of another size (both named).
    """
    root = _split_folder(folder, split)
    classes = sorted(d.name for d in root.iterdir() if d.is_dir() and any(_images(d)))
    paths = [p for name in classes for p in _images(root / name)] if classes else list(_images(root))
    if not paths:
        raise NotFound(f"{root}: no images ({', '.join(EXTENSIONS)}), there or one folder below")
    mode = mode or ("L" if read_image(paths[0]).shape[0] == 1 else "RGB")
    images = [read_image(path, mode=mode, size=size) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            seen, expected = image.shape[1:], images[0].shape[1:]
            raise InputError(
                f"{path}: {seen[0]}×{seen[1]} pixels, expected {expected[0]}×{expected[1]} as "
                f"{paths[0].name}. Resize all with --size {expected[0]}x{expected[1]}."
            )
    labels = np.array([classes.index(p.parent.name) for p in paths], np.int64) if classes else None
    return Dataset(folder.name, np.stack(images), labels, tuple(classes))


def _split_folder(folder: Path, split: str) -> Path:
    if (folder / "train").is_dir():
        if not (folder / split).is_dir():
            raise NotFound(f"{folder}: has train/ but no {split}/")
        return folder / split
    if split != "train":
        raise NotFound(f"{folder}: no test split; put images in {folder.name}/train and /test")
    return folder


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)


def load_npz(path: Path, split: str) -> Dataset:
    """Read arrays `images` and, if there, `labels` and `classes`; `test_images` … for the test split.

    Images are N×H×W, N×C×H×W or N×H×W×C; bytes, or floats in [0, 1], which are rounded to bytes.
    """
    prefix = "" if split == "train" else "test_"
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz of plain arrays") from error
    if f"{prefix}images" not in found:
        raise NotFound(f"{path}: no array '{prefix}images'; it has {', '.join(found) or 'none'}")
    images = _bytes_nchw(found[f"{prefix}images"], path)
    labels = found.get(f"{prefix}labels")
    if labels is None:
        return Dataset(path.stem, images)
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size:
        raise InputError(f"{path}: labels are {labels.dtype}{list(labels.shape)}, expected int[N]")
    names = found.get("classes", np.arange(int(labels.max()) + 1))
    return Dataset(path.stem, images, labels.astype(np.int64), tuple(str(n) for n in names))


def _bytes_nchw(images: NDArray[np.generic], path: Path) -> NDArray[np.uint8]:
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4:
        raise InputError(f"{path}: images have {images.ndim} dimensions, expected 3 or 4")
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.dtype.kind == "f":
        if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
            raise InputError(f"{path}: float images must be finite and lie in [0, 1]")
        images = np.rint(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise InputError(f"{path}: images are {images.dtype}, expected uint8 or float in [0, 1]")
    return np.ascontiguousarray(images)
