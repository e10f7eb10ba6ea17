"""Bodies of requests and of responses: image files, `.npy` and JSON.

The content of a body decides its format, as for files; its Content-Type is not needed.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from ..arrays import as_latents, check_images
from ..errors import InputError
from ..files.npz import read_npy
from ..grids import grid_columns, tile
from ..images import encode_image, read_image, undo_enlargement
from .limits import Limits, RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle.spec import ModelSpec

JSON, NPY = "application/json", "application/x-npy"
PICTURES = {"image/png": ".png", "image/webp": ".webp"}
_NPY_MARK = b"\x93NUMPY"

Label = int | str | list[int | str] | None


class SampleBody(BaseModel):
    """The body of `POST /sample`; every field is optional."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"label": 3}]})

    n: int = 1
    label: Label = None
    seed: int | None = None
    prior: str = "fitted"
    temperature: float = 1.0
    truncation: float | None = None


class LatentsBody(BaseModel):
    """The JSON body of `POST /decode`."""

    model_config = ConfigDict(extra="forbid")

    z: list[Any]
    label: Label = None


class ImagesBody(BaseModel):
    """The JSON body of `POST /encode`, `/reconstruct` and `/score`: pixels in [0, 1]."""

    model_config = ConfigDict(extra="forbid")

    images: list[Any]
    label: Label = None


class Rows(NamedTuple):
    """What a request sends: images or latents [N, …], and their label."""

    values: NDArray[Any]
    label: Label


def parse_json(kind: type[BaseModel], raw: bytes) -> Any:
    """Parse a JSON body.

    Raises:
        RequestError: 422, with the first mistake in one line.
    """
    try:
        return kind.model_validate_json(raw or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise RequestError(422, f"{place}: {first['msg'].lower()}") from error


def read_images(
    raw: bytes, label: Label, spec: ModelSpec, limits: Limits, *, resize: bool = False
) -> Rows:
    """Read images from a body.

    Args:
        raw: an image file, `.npy` or JSON.
        label: the label of the query; JSON may have its own.
        spec: the model, which defines the size and mode of images.
        limits: the limits on pixels and images.
        resize: resize an image file to the model's size.

    Raises:
        InputError, LimitError: the images are damaged, too large, or do not fit the model.
        RequestError: the JSON is malformed, or there are too many images.
    """
    images: NDArray[Any]
    if raw.startswith(_NPY_MARK):
        images = read_npy(raw, "body")
    elif raw.lstrip()[:1] == b"{":
        body = parse_json(ImagesBody, raw)
        images, label = _numbers(body.images, "images"), _one_label(label, body.label)
    else:
        size = spec.image.shape[1:] if resize else None
        image = read_image(raw, mode=spec.image.mode, size=size, max_pixels=limits.pixels)
        images = undo_enlargement(image, spec.image.shape)[None]
        if images.shape[1:] != spec.image.shape:
            (h, w), (_, height, width) = images.shape[2:], spec.image.shape
            raise InputError(
                f"image: {h}×{w} pixels; the model takes {height}×{width}. Use ?resize=true"
            )
    images = check_images(images, spec.image)
    check_number(len(images), limits, "images")
    return Rows(images, label)


def read_latents(raw: bytes, label: Label, spec: ModelSpec, limits: Limits) -> Rows:
    """Read latents from a body, `.npy` or JSON; raise the errors of `read_images`."""
    if raw.startswith(_NPY_MARK):
        z = as_latents(read_npy(raw, "body"), spec.latent_shape)
    else:
        body = parse_json(LatentsBody, raw)
        z = as_latents(_numbers(body.z, "z"), spec.latent_shape)
        label = _one_label(label, body.label)
    check_number(len(z), limits, "latents")
    return Rows(z, label)


def check_number(n: int, limits: Limits, what: str) -> None:
    """Check the number of images or latents of a request.

    Raises:
        RequestError: 413, there are too many.
    """
    if n > limits.images:
        raise RequestError(413, f"{n:,} {what}, at most {limits.images:,} per request")


def negotiate(accept: str | None, offered: Sequence[str]) -> str:
    """Return the offered media type that an Accept header prefers; the first if there is none.

    Raises:
        RequestError: 406, none of them is accepted.
    """
    ranked: list[tuple[float, int, str]] = []
    for place, item in enumerate((accept or "*/*").split(",")):
        wanted, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            ranked.append((-float(weight), place, wanted))
        except ValueError:
            continue
    refused = {wanted for quality, _, wanted in ranked if not quality}  # q=0
    for quality, _, wanted in sorted(ranked):
        for kind in offered:
            group = kind.partition("/")[0] + "/*"
            excluded = kind in refused or (group in refused and wanted == "*/*")
            if quality < 0 and wanted in (kind, group, "*/*") and not excluded:
                return kind
    raise RequestError(406, f"Accept: {(accept or '')[:80]}, expected {' or '.join(offered)}")


def to_picture(images: NDArray[Any], kind: str, scale: int) -> bytes:
    """Encode images [N, C, H, W] as one picture; several images form a grid."""
    n = len(images)
    sheet = images[0] if n == 1 else tile(images, grid_columns(n))
    return encode_image(sheet, PICTURES[kind], scale)


def to_npy(array: NDArray[Any]) -> bytes:
    """Encode an array as `.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _numbers(value: list[Any], what: str) -> NDArray[np.float32]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(422, f"{what}: lists of different lengths") from error
    if array.dtype.kind not in "iuf":
        raise RequestError(422, f"{what}: expected numbers only")
    with np.errstate(over="ignore"):  # infinities are refused later, by name and place
        return array.astype(np.float32)


def _one_label(query: Label, body: Label) -> Label:
    if query is not None and body is not None:
        raise RequestError(422, "label: given in the query and in the body, expected one of them")
    return query if body is None else body
