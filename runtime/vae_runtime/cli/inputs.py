"""Read the images and latents named on the command line: files, folders, data sets, `-`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import as_latents, check_images, to_float32
from ..console import pluralize, print_status, track_images
from ..datasets import ReadOptions, log_reading, read_split
from ..datasets.pixels import to_bytes
from ..errors import InputError, LimitError
from ..files.npz import read_npy, read_npz
from ..files.reading import read_bytes
from ..images import (
    MAX_PHOTO_PIXELS,
    MAX_PIXELS,
    compose,
    decode_image,
    is_image,
    undo_enlargement,
)
from .options import InputOptions, single_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ImageSpec, ModelSpec

Size = tuple[int, int] | None  # (H, W) that image files are resized to
_OTHER_MODEL = "Give images of that size, or a --bundle for these."
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
        inputs: image files, `.npy` arrays, `-` for standard input, or anything that
            `vae-train --data` takes; of data with splits, the test split.
        spec: size and mode of the images that the model takes.
        limit: stop after this many images.
        resize: resize image files to the model's image size, as `vae-train --size` does.

    Raises:
        NotFound: a path does not exist, or a folder has no images.
        InputError: an image is unreadable or has the wrong size, or there are no images at all.
    """
    size = spec.shape[1:] if resize else None
    found: list[InputImages] = []
    left = limit
    for name in inputs:
        found.append(_read_one(name, spec, size, left))
        if left is not None and (left := left - len(found[-1])) <= 0:
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


def _read_one(name: str, spec: ImageSpec, size: Size, limit: int | None) -> InputImages:
    path = Path(name)
    if name == "-":
        return _from_stdin(spec, size)
    if path.suffix == ".npy" and path.is_file():
        return _from_npy(read_bytes(path), spec, name)
    if path.is_file() and is_image(path):
        return _from_image(path, spec, name, size)
    return _from_dataset(name, spec, size, limit)


def _from_dataset(name: str, spec: ImageSpec, size: Size, limit: int | None) -> InputImages:
    options = ReadOptions(size, spec.mode, limit=limit, track=track_images)
    data = read_split(name, "held_out", options)
    log_reading(name, data, print_status)
    labels = None if data.labels is None else [data.classes[k] for k in data.labels.tolist()]
    images = data.images
    if data.files:
        images = np.stack([undo_enlargement(image, spec.shape) for image in images])
    found = _check_size(images, spec, name, "Use --resize." if data.files else _OTHER_MODEL)
    return replace(found, names=list(data.files or found.names), labels=labels)


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


def _from_image(source: Path | bytes, spec: ImageSpec, name: str, size: Size) -> InputImages:
    """Decode one image file in the model's mode; report what is lost."""
    # A user's own file that is made smaller may be a large photograph.
    max_pixels = MAX_PHOTO_PIXELS if size and isinstance(source, Path) else MAX_PIXELS
    try:
        decoded = decode_image(source, mode=spec.mode, size=size, max_pixels=max_pixels)
    except (InputError, LimitError) as error:
        if isinstance(source, Path):
            raise
        # The message does not name the source of the bytes.
        raise type(error)(f"{name}: {str(error).partition(': ')[2]}") from error
    images, changes = compose([decoded])
    for change in changes:
        print_status(f"note: {name}: {change}")
    image = undo_enlargement(images[0], spec.shape)
    return _check_size(image[None], spec, name, "Use --resize.")


def _from_npy(raw: bytes, spec: ImageSpec, name: str) -> InputImages:
    """Read an array: floats in [0, 1] exactly, other arrays as `vae-train` reads them."""
    array = read_npy(raw, name)
    is_float = array.dtype.kind == "f" and (
        not array.size or bool(array.min() >= 0 and array.max() <= 1)
    )
    is_bytes = array.dtype == np.uint8 and array.max(initial=0) != 1
    is_rows = array.ndim == 2 and array.shape != spec.shape[1:]
    keeps_alpha = "A" in spec.mode
    has_alpha = array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (2, 4)
    if is_float:
        array = array.astype(np.float32, copy=False)
    if not (is_float or is_bytes) or is_rows or (has_alpha and not keeps_alpha):
        array, changes = to_bytes(array, name, spec.shape[1:], alpha=keeps_alpha)
        for change in changes:
            print_status(f"note: {name}: {change}")
    try:
        images = check_images(array, spec)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return InputImages(images, _numbered(name, len(images)))


def _check_size(
    images: NDArray[np.uint8],
    spec: ImageSpec,
    name: str,
    remedy: str,
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
