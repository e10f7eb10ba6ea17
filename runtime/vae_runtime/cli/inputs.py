"""Read the images and latents named on the command line: files, folders, data sets, `-`."""

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
from ..images import EXTENSIONS, MAX_BYTES, is_image, read_image, undo_enlargement
from .options import InputOptions, single_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ImageSpec, ModelSpec

Size = tuple[int, int] | None  # (H, W) that image files are resized to
DATASETS = ("mnist", "digits")
_STDIN, _MAX_STDIN = "standard input", 1 << 30
_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


@dataclass(frozen=True)
class InputImages:
    """Images [N, C, H, W], u8 or f32, with their names and labels.

    Attributes:
        images: checked against the model's image shape.
        names: the file of each image; for an array, the file and index, as in `a.npy#3`.
        labels: the class name of each image, or None if the data has no labels.
    """

    images: NDArray[Any]
    names: list[str]
    labels: list[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def indices(self, spec: ModelSpec) -> NDArray[np.int64] | None:
        """Convert the labels to class indices i64[N]; return None if a class is unknown."""
        if self.labels is None or not set(self.labels) <= set(spec.classes):
            return None
        index = {name: i for i, name in enumerate(spec.classes)}
        return np.array([index[name] for name in self.labels], np.int64)


def read_inputs(
    source: InputOptions, spec: ModelSpec
) -> tuple[InputImages, int | NDArray[np.int64] | None]:
    """Read the images and their labels: --label, or else the labels in the data.

    For the errors raised, see `single_label` and `read_images`.
    """
    label = single_label(source.labels, spec)
    images = read_images(source.inputs, spec.image, source.limit, resize=source.resize)
    return images, images.indices(spec) if label is None else label


def read_images(
    inputs: tuple[str, ...],
    spec: ImageSpec,
    limit: int | None = None,
    *,
    resize: bool = False,
) -> InputImages:
    """Read the images that `inputs` name, in that order, up to `limit`.

    Args:
        inputs: image files, folders, IDX files or folders of them, `.npy`, `.npz`, `mnist` or
            `digits` (their test split), or `-` for standard input. An image's sub-folder is its
            label.
        spec: size and mode of the images that the model takes.
        limit: stop after this many images.
        resize: resize image files to the model's image size, as `vae-train --size` does.

    Raises:
        NotFound: a path does not exist, or a folder has no images.
        InputError: an image is unreadable or has the wrong size, or there are no images at all.
    """
    found: list[InputImages] = []
    for one in _read_each(inputs, spec, spec.shape[1:] if resize else None):
        found.append(one)
        if limit is not None and sum(map(len, found)) >= limit:
            break
    one_dtype = len({one.images.dtype for one in found}) == 1
    images = [one.images if one_dtype else to_float32(one.images) for one in found]
    whole = images[0] if len(images) == 1 else np.concatenate(images)
    if not len(whole):
        raise InputError(f"{', '.join(inputs)}: no images, expected at least one")
    names = [name for one in found for name in one.names]
    labels = [label for one in found for label in one.labels or ()]
    all_labelled = len(labels) == len(names)
    return InputImages(whole[:limit], names[:limit], labels[:limit] if all_labelled else None)


def _read_each(inputs: tuple[str, ...], spec: ImageSpec, size: Size) -> Iterator[InputImages]:
    for name in inputs:
        path = Path(name)
        if name == "-":
            yield _from_stdin(spec, size)
        elif name in DATASETS and not path.exists():
            yield _from_dataset(name, spec, "test")
        elif path.is_dir() and not is_idx_folder(path):
            yield from _from_folder(path, spec, size)
        elif path.is_dir():
            yield _from_dataset(name, spec, "test" if any(path.glob("t10k-*")) else "train")
        elif path.suffix == ".npz":
            yield _from_dataset(name, spec, "train")
        elif path.suffix == ".npy":
            yield _from_npy(read_bytes(path), spec, name)
        elif "-ubyte" in path.name:
            yield _check_size(read_idx(path)[:, None], spec, name)
        else:
            yield _from_image(read_bytes(path, max_bytes=MAX_BYTES), spec, name, size)


def _from_folder(path: Path, spec: ImageSpec, size: Size) -> Iterator[InputImages]:
    files = sorted(p for p in path.rglob("*") if is_image(p))
    if not files:
        raise NotFound(f"{path}: no images in this folder ({', '.join(EXTENSIONS)})")
    for file in files:
        image = _from_image(read_bytes(file, max_bytes=MAX_BYTES), spec, str(file), size)
        yield image if file.parent == path else replace(image, labels=[file.parent.name])


def _from_dataset(name: str, spec: ImageSpec, split: str) -> InputImages:
    data = load_dataset(name, split)
    labels = None if data.labels is None else [data.classes[k] for k in data.labels.tolist()]
    return replace(_check_size(data.images, spec, name), labels=labels)


def _from_stdin(spec: ImageSpec, size: Size) -> InputImages:
    raw = _read_stdin()
    if not raw:
        raise InputError(f"{_STDIN}: empty, expected an image or an .npy array")
    if raw.startswith(_NPY):
        return _from_npy(raw, spec, _STDIN)
    return _from_image(raw, spec, _STDIN, size)


def _read_stdin() -> bytes:
    raw = sys.stdin.buffer.read(_MAX_STDIN + 1)
    if len(raw) > _MAX_STDIN:
        raise LimitError(f"{_STDIN}: more than {_MAX_STDIN} bytes")
    return raw


def _from_image(raw: bytes, spec: ImageSpec, name: str, size: Size) -> InputImages:
    """Decode one image file and convert it to the model's mode; report any conversion."""
    try:
        image = read_image(
            raw,
            mode=spec.mode if "A" in spec.mode else None,
            size=size,
            log=lambda line: print_status(f"note: {name}: {line}"),
        )
        if len(image) != spec.channels:
            image = read_image(raw, size=size, mode=spec.mode)
            change = "colour to grey" if spec.channels == 1 else "grey to colour"
            print_status(f"note: {name}: {change}, as the model takes {spec.mode}")
    except (InputError, LimitError) as error:
        # `read_image` was given bytes, so its message does not name the file.
        raise type(error)(f"{name}: {str(error).partition(': ')[2]}") from error
    return _check_size(undo_enlargement(image, spec.shape)[None], spec, name, "Use --resize.")


def _from_npy(raw: bytes, spec: ImageSpec, name: str) -> InputImages:
    array = read_npy(raw, name)
    try:
        images = check_images(array, spec)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return InputImages(images, _numbered(name, len(images)))


def _check_size(
    images: NDArray[np.uint8],
    spec: ImageSpec,
    name: str,
    remedy: str = "Give images of that size, or a --bundle for these.",
) -> InputImages:
    if images.shape[1:] != spec.shape:
        c, h, w = images.shape[1:]
        raise InputError(
            f"{name}: {h}×{w} pixels, {pluralize(c, 'channel')}; the model takes "
            f"{spec.height}×{spec.width}, {spec.channels}. {remedy}"
        )
    return InputImages(images, _numbered(name, len(images)))


def _numbered(name: str, n: int) -> list[str]:
    return [name] if n == 1 else [f"{name}#{i}" for i in range(n)]


def read_latents(
    name: str, latent_shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Read latents f32[N, *latent_shape] from `.npy`, `.npz` (`z`), `.csv` or `-`.

    Returns:
        The latents, and the labels i64[N] that an `.npz` may have.

    Raises:
        NotFound: the file does not exist.
        InputError: the file is malformed, or an array has the wrong shape.
    """
    raw = _read_stdin() if name == "-" else read_bytes(Path(name))
    source = _STDIN if name == "-" else name
    labels = None
    if raw.startswith(_NPY):
        latents = read_npy(raw, source)
    elif raw.startswith(_ZIP):
        arrays = read_npz(raw, source)
        if "z" not in arrays:
            raise InputError(f"{source}: no array 'z', it has {', '.join(arrays) or 'none'}")
        latents, labels = arrays["z"], arrays.get("labels")
    else:
        latents = _parse_csv(raw, source)
    try:
        return as_latents(latents, latent_shape), labels
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _parse_csv(raw: bytes, source: str) -> NDArray[np.float32]:
    try:
        rows = [line.split(",") for line in raw.decode().splitlines() if line.strip()]
        with np.errstate(over="ignore"):  # `as_latents` refuses infinities and names their place
            return np.array([[float(cell) for cell in row] for row in rows], np.float32)
    except ValueError as error:
        raise InputError(
            f"{source}: not latents. Expected .npy, .npz, or lines of comma-separated numbers"
        ) from error
