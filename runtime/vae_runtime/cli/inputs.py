"""Images and latents named on the command line: files, folders, IDX, arrays, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import as_latents, check_images, to_float32
from ..console import pluralize, print_status
from ..datasets import load_dataset
from ..datasets.idx import is_idx_folder, read_idx
from ..errors import InputError, LimitError, NotFound
from ..files.npz import read_npy, read_npz
from ..files.reading import read_bytes
from ..images import EXTENSIONS, MAX_BYTES, is_image, read_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ImageSpec, ModelSpec

Size = tuple[int, int] | None  # (H, W) that image files are resized to
DATASETS = ("mnist", "digits")
_STDIN, _MAX_STDIN = "standard input", 1 << 30
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


@dataclass(frozen=True)
class Pictures:
    """Images [N, C, H, W], u8 or f32, with what is known of each.

    Attributes:
        images: checked against the model's image shape.
        names: where each came from.
        labels: the class of each as a name, or None where the data has none.
    """

    images: NDArray[Any]
    names: list[str]
    labels: list[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def indices(self, spec: ModelSpec) -> NDArray[np.int64] | None:
        """The model's class index of each, i64[N]; None where the names are not the model's."""
        if self.labels is None or not set(self.labels) <= set(spec.classes):
            return None
        index = {name: i for i, name in enumerate(spec.classes)}
        return np.array([index[name] for name in self.labels], np.int64)


def read_pictures(
    inputs: tuple[str, ...],
    spec: ImageSpec,
    limit: int | None = None,
    split: str = "test",
    *,
    resize: bool = False,
) -> Pictures:
    """All images that `inputs` name, in that order, at most `limit`.

    Args:
        inputs: image files, folders, IDX files or folders of them, `.npy`, `.npz`, `mnist`,
            `digits`, or `-` for standard input. The sub-folder of an image is its label.
        spec: what the model takes.
        limit: stop after this many.
        split: of data that has two.
        resize: bring image files to the model's size, as `vae-train --size` does.

    Raises:
        NotFound: a path that is not there, or a folder without images.
        InputError: an image of another size, one that cannot be read, or none at all.
    """
    parts: list[Pictures] = []
    for part in _parts(inputs, spec, split, spec.shape[1:] if resize else None):
        parts.append(part)
        if limit is not None and sum(map(len, parts)) >= limit:
            break
    kinds = {part.images.dtype for part in parts}
    images = [part.images if len(kinds) == 1 else to_float32(part.images) for part in parts]
    whole = images[0] if len(images) == 1 else np.concatenate(images)
    if not len(whole):
        raise InputError(f"{', '.join(inputs)}: no images, expected at least one")
    names = [name for part in parts for name in part.names]
    labels = [label for part in parts for label in part.labels or ()]
    return Pictures(
        whole[:limit], names[:limit], labels[:limit] if len(labels) == len(names) else None
    )


def _parts(inputs: tuple[str, ...], spec: ImageSpec, split: str, size: Size) -> Iterator[Pictures]:
    for name in inputs:
        path = Path(name)
        if name == "-":
            yield _given(spec, size)
        elif name in DATASETS and not path.exists():
            yield _dataset(name, spec, split)
        elif path.is_dir() and not is_idx_folder(path):
            yield from _folder(path, spec, size)
        elif path.is_dir():
            tests = any(path.glob("t10k-*"))
            yield _dataset(name, spec, split if tests else "train")
        elif path.suffix == ".npz":
            yield _dataset(name, spec, "train")
        elif path.suffix == ".npy":
            yield _array(read_bytes(path), spec, name)
        elif "-ubyte" in path.name:
            yield _sized(read_idx(path)[:, None], spec, name)
        else:
            yield _picture(read_bytes(path, max_bytes=MAX_BYTES), spec, name, size)


def _folder(path: Path, spec: ImageSpec, size: Size) -> Iterator[Pictures]:
    files = sorted(p for p in path.rglob("*") if is_image(p))
    if not files:
        raise NotFound(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    for file in files:
        picture = _picture(read_bytes(file, max_bytes=MAX_BYTES), spec, str(file), size)
        yield picture if file.parent == path else replace(picture, labels=[file.parent.name])


def _dataset(name: str, spec: ImageSpec, split: str) -> Pictures:
    data = load_dataset(name, split)
    labels = None if data.labels is None else [data.classes[k] for k in data.labels.tolist()]
    return Pictures(_sized(data.images, spec, name).images, _numbered(name, len(data)), labels)


def _given(spec: ImageSpec, size: Size) -> Pictures:
    raw = _stdin()
    if not raw:
        raise InputError(f"{_STDIN}: empty, expected an image or an .npy array")
    return _array(raw, spec, _STDIN) if raw.startswith(_NPY) else _picture(raw, spec, _STDIN, size)


def _stdin() -> bytes:
    raw = sys.stdin.buffer.read(_MAX_STDIN + 1)
    if len(raw) > _MAX_STDIN:
        raise LimitError(f"{_STDIN}: more than {_MAX_STDIN} bytes")
    return raw


def _picture(raw: bytes, spec: ImageSpec, name: str, size: Size) -> Pictures:
    """One image file, in the model's mode; a conversion is said."""
    try:
        image = read_image(raw, size=size, say=lambda line: print_status(f"note: {name}: {line}"))
        if len(image) != spec.channels:
            image = read_image(raw, size=size, mode=spec.mode)
            change = "colour to grey" if spec.channels == 1 else "grey to colour"
            print_status(f"note: {name}: {change}, as the model takes {spec.mode}")
    except (InputError, LimitError) as error:
        # The bytes were read here, so the reader does not know their name.
        raise type(error)(f"{name}: {str(error).partition(': ')[2]}") from error
    return _sized(image[None], spec, name, "Say --resize.")


def _array(raw: bytes, spec: ImageSpec, name: str) -> Pictures:
    array = read_npy(raw, name)
    try:
        images = check_images(array, spec)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return Pictures(images, _numbered(name, len(images)))


def _sized(
    images: NDArray[np.uint8],
    spec: ImageSpec,
    name: str,
    remedy: str = "Give images of that size, or a --bundle for these.",
) -> Pictures:
    if images.shape[1:] != spec.shape:
        c, h, w = images.shape[1:]
        raise InputError(
            f"{name}: {h}×{w} pixels, {pluralize(c, 'channel')}; the model takes "
            f"{spec.height}×{spec.width}, {spec.channels}. {remedy}"
        )
    return Pictures(images, _numbered(name, len(images)))


def _numbered(name: str, n: int) -> list[str]:
    return [name] if n == 1 else [f"{name}#{i}" for i in range(n)]


def read_latents(
    name: str, latent_dim: int
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Codes f32[N, D] from `.npy`, `.npz` (array `z`) or `.csv`, or `-`; with labels i64[N] if any.

    Raises:
        NotFound: no such file.
        InputError: not readable, or of another shape.
    """
    raw = _stdin() if name == "-" else read_bytes(Path(name))
    where = _STDIN if name == "-" else name
    labels = None
    if raw.startswith(_NPY):
        latents = read_npy(raw, where)
    elif raw.startswith(_ZIP):
        arrays = read_npz(raw, where)
        if "z" not in arrays:
            raise InputError(f"{where}: no array 'z', it has {', '.join(arrays) or 'none'}")
        latents, labels = arrays["z"], arrays.get("labels")
    else:
        latents = _load_csv(raw, where)
    try:
        return as_latents(latents, latent_dim), labels
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _load_csv(raw: bytes, where: str) -> NDArray[np.float32]:
    try:
        rows = [line.split(",") for line in raw.decode().splitlines() if line.strip()]
        with np.errstate(over="ignore"):  # to infinity, which is refused with its place
            return np.array([[float(cell) for cell in row] for row in rows], np.float32)
    except ValueError as error:
        raise InputError(f"{where}: expected lines of comma-separated numbers") from error
