"""Images named on the command line: files, folders, IDX, arrays, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..arrays import as_images
from ..card import ImageSpec
from ..datasets.folder import load_npz
from ..datasets.idx import is_idx_folder, load_idx, read_idx
from ..errors import InputError, NotFound
from ..images import EXTENSIONS, read_image

_MAX_STDIN = 64 << 20


def read_images(inputs: tuple[str, ...], spec: ImageSpec, limit: int) -> NDArray[np.float32]:
    """All images that `inputs` name, at most `limit`: f32[N, C, H, W] in [0, 1].

    Raises:
        NotFound: a path that is not there, or a folder without images.
        InputError: an image of another size, or one that cannot be read.
    """
    found = list(islice(_all(inputs, spec), limit))
    return as_images(np.stack(found), spec)


def _all(inputs: tuple[str, ...], spec: ImageSpec) -> Iterator[NDArray[np.uint8]]:
    for name in inputs:
        path = Path(name)
        if name == "-":
            yield _one(sys.stdin.buffer.read(_MAX_STDIN), spec, "standard input")
        elif path.is_dir():
            yield from _folder(path, spec)
        elif path.suffix == ".npz":
            yield from _sized(load_npz(path, "train").images, spec, path)
        elif path.suffix in (".npy",):
            yield from (np.load(path, allow_pickle=False))
        elif "-ubyte" in path.name:
            yield from _sized(read_idx(path)[:, None], spec, path)
        else:
            yield _one(path, spec, name)


def _folder(path: Path, spec: ImageSpec) -> Iterator[NDArray[np.uint8]]:
    if is_idx_folder(path):
        yield from _sized(load_idx(path, "test").images, spec, path)
        return
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise NotFound(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    for file in files:
        yield _one(file, spec, str(file))


def _one(source: Path | bytes, spec: ImageSpec, name: str) -> NDArray[np.uint8]:
    image = read_image(source, mode=spec.mode)
    return next(_sized(image[None], spec, name))


def _sized(
    images: NDArray[np.uint8], spec: ImageSpec, name: str | Path
) -> Iterator[NDArray[np.uint8]]:
    if images.shape[1:] != spec.shape:
        c, h, w = images.shape[1:]
        raise InputError(
            f"{name}: {h}×{w} pixels, {c} channels; the model takes {spec.height}×{spec.width}, "
            f"{spec.channels}. Resize the image first."
        )
    yield from images
