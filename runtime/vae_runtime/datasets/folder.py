"""Read a folder of images with one sub-folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, NotFound
from ..images import EXTENSIONS, is_image, read_image
from .dataset import Dataset


def load_folder(
    folder: Path, split: str, size: tuple[int, int] | None = None, mode: str | None = None
) -> Dataset:
    """Read `FOLDER/CLASS/*.png` (or .jpg .jpeg .webp .bmp); the classes are sorted by name.

    If `FOLDER/train` exists, `split` selects `FOLDER/train` or `FOLDER/test`, and `train` defines
    the classes; otherwise, all images are training data. Images outside class folders form a data
    set without labels. Names that begin with a dot are ignored.

    Args:
        folder: the folder of images.
        split: `train` or `test`.
        size: (H, W) to resize every image to; if None, all images must have the same size.
        mode: `L` or `RGB` to convert to; None means `L` if all images are grey, else `RGB`.

    Raises:
        NotFound: there are no images, or no such split.
        InputError: an image is unreadable or differs in size, images lie beside class folders,
            or a class is not in `train`.
    """
    root = _split_folder(folder, split)
    found = _classes(root)
    loose = _images(root)
    if found and loose:
        raise InputError(
            f"{loose[0]}: an image beside the class folders {found[0]}, …; expected either images "
            "or class folders. Move it into a class folder."
        )
    paths = [p for name in found for p in _images(root / name)] if found else loose
    if not paths:
        raise NotFound(f"{root}: no images ({', '.join(EXTENSIONS)}) in it or one folder below")
    images = _one_mode([read_image(path, mode=mode, size=size) for path in paths])
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            (h, w), (first_h, first_w) = image.shape[1:], images[0].shape[1:]
            raise InputError(
                f"{path}: {h}x{w} pixels, expected {first_h}x{first_w} like {paths[0].name}. "
                f"Resize all with --size {first_h}x{first_w}."
            )
    name = folder.resolve().name
    if not found:
        return Dataset(name, np.stack(images))
    classes = found if split == "train" else _classes(folder / "train")
    unknown = sorted(set(found) - set(classes))
    if unknown:
        raise InputError(f"{root / unknown[0]}: a class that {folder / 'train'} does not have")
    labels = np.array([classes.index(p.parent.name) for p in paths], np.int64)
    return Dataset(name, np.stack(images), labels, classes)


def _split_folder(folder: Path, split: str) -> Path:
    if (folder / "train").is_dir():
        if not (folder / split).is_dir():
            raise NotFound(f"{folder}: has train/ but no {split}/")
        return folder / split
    if split != "train":
        raise NotFound(
            f"{folder}: no test split. Put images in {folder.name}/train and {folder.name}/test."
        )
    return folder


def _classes(root: Path) -> tuple[str, ...]:
    """Return the sorted names of the sub-folders that hold images."""
    folders = [d for d in root.iterdir() if d.is_dir() and not d.name.startswith(".")]
    return tuple(sorted(d.name for d in folders if _images(d)))


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_image(p) and p.is_file())


def _one_mode(images: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Convert grey images to RGB if any image is RGB."""
    channels = max(len(image) for image in images)
    return [np.repeat(i, channels, axis=0) if len(i) < channels else i for i in images]
