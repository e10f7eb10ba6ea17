"""Compress images to quantised latents in a `.vaez` file, and decompress them.

A file is a mark, the length of a JSON header as u32, the header, and a range-coded payload of u32
words, all little-endian. The payload holds the quantised latents of each image, coded by a normal
distribution per dimension, and then the labels. An image comes back as its reconstruction: the
compression is lossy, and as good as the model. The coder is that of the package constriction
(Bamler 2022, arXiv 2201.01741).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .arrays import check_images, to_float32
from .dependencies import require
from .errors import InputError, IntegrityError, UsageError
from .files.json_fields import parse_json, take, take_array
from .inference.batching import BATCH_SIZE
from .labels import as_labels

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .autoencoder import Autoencoder
    from .labels import Labels

Floats: TypeAlias = "NDArray[np.float32]"

MARK = b"VAEZ\x01"
_MAX_HEADER = 1 << 20
_MAX_IMAGES = 1 << 24
_LARGEST = 1 << 14  # of a quantised latent
_TRIED = 256  # images that the steps are chosen on
_FACTORS = 2.0 ** (np.arange(12, -9, -1) / 2)  # of the steps, the coarsest first
_WORDS = 16  # a payload may have this many words per number; the coder needs at most 1


@dataclass(frozen=True)
class Header:
    """How the latents of a file were quantised and coded.

    Attributes:
        bundle: id of the model that they belong to.
        n: number of images.
        step: f64[D], the distance of two levels.
        mean, std: f64[D], of the quantised latents, in steps.
        bound: no quantised latent is further from 0, in steps.
        labelled: whether the payload holds labels.
        sha256: of the payload.
    """

    bundle: str
    n: int
    step: list[float]
    mean: list[float]
    std: list[float]
    bound: int
    labelled: bool
    sha256: str


def compress(
    model: Autoencoder, images: ArrayLike, label: Labels = None, *, loss: float = 0.05
) -> bytes:
    """Compress images to the content of a `.vaez` file.

    Args:
        model: the model; decompression needs the same.
        images: u8 or f32 [N, C, H, W].
        label: the labels, for a conditional model; they are stored.
        loss: by which fraction quantisation may raise the squared error of reconstructions; the
            coarsest steps that keep to it are chosen.

    Raises:
        UsageError: `loss` is not above 0.
        InputError: there are no images, or they do not fit the model.
        MissingExtra: constriction is not installed.
    """
    require("compression", "constriction", extra="cpu,compress")
    if not loss > 0:
        raise UsageError(f"loss is {loss:g}, expected above 0")
    pixels = check_images(images, model.spec.image)
    if not len(pixels):
        raise InputError("no images to compress, expected at least one")
    labels = None if label is None else as_labels(label, len(pixels), model.spec)
    z, log_var = model.posterior(pixels, labels)
    flat = z.reshape(len(z), -1).astype(np.float64)
    step = _steps(model, pixels, flat, log_var, labels, loss)
    step = np.array([float(f"{one:.3g}") for one in step])  # short in the header
    levels = np.rint(flat / step).clip(-_LARGEST, _LARGEST).astype(np.int32)
    header, payload = _encode(model, levels, step, labels)
    text = json.dumps(asdict(header), separators=(",", ":")).encode()
    return MARK + len(text).to_bytes(4, "little") + text + payload


def decompress(model: Autoencoder, raw: bytes, where: str = "file") -> Floats:
    """Return the images f32[N, C, H, W] of a `.vaez` file.

    Raises:
        InputError: not such a file, or one of another model.
        IntegrityError: the file is damaged.
        MissingExtra: constriction is not installed.
    """
    require("compression", "constriction", extra="cpu,compress")
    header, payload = read_header(raw, where)
    if header.bundle != model.spec.id:
        raise InputError(
            f"{where}: compressed with the model {header.bundle[:80]}, expected {model.spec.id}. "
            "Use the bundle that it was compressed with."
        )
    if len(header.step) != model.spec.latent_dim:
        raise InputError(f"{where}: {len(header.step)} dimensions, not those of the model")
    levels, labels = _decode(header, payload, len(model.spec.classes))
    z = (levels * np.array(header.step)).astype(np.float32)
    z = z.reshape(-1, *model.spec.latent_shape)
    parts = [
        model.decode(z[rows], None if labels is None else labels[rows])
        for rows in (slice(i, i + BATCH_SIZE) for i in range(0, len(z), BATCH_SIZE))
    ]
    return np.concatenate(parts)


def read_header(raw: bytes, where: str) -> tuple[Header, bytes]:
    """Check a file; return its header and its payload.

    Raises:
        InputError: not such a file.
        IntegrityError: the payload is damaged.
    """
    begin = len(MARK) + 4
    length = int.from_bytes(raw[len(MARK) : begin], "little")
    if not raw.startswith(MARK) or len(raw) < begin + length or length > _MAX_HEADER:
        raise InputError(f"{where}: not what vae-run compress writes")
    data, payload = parse_json(raw[begin : begin + length], where), raw[begin + length :]
    step, mean, std = (take_array(data, name, where) for name in ("step", "mean", "std"))
    labelled = data.get("labelled")
    header = Header(
        take(data, "bundle", str, where), take(data, "n", int, where),
        step.tolist(), mean.tolist(), std.tolist(),
        take(data, "bound", int, where), labelled is True, take(data, "sha256", str, where),
    )  # fmt: skip
    fits = (
        step.shape == mean.shape == std.shape
        and step.ndim == 1
        and bool((step > 0).all() and (std > 0).all())
        and 1 <= header.n <= _MAX_IMAGES
        and 1 <= header.bound <= _LARGEST
        and isinstance(labelled, bool)
    )
    if not fits:
        raise InputError(f"{where}: a number of the header is out of range")
    whole = len(payload) % 4 == 0 and len(payload) <= 4 * _WORDS * header.n * (len(step) + 1)
    if not whole or hashlib.sha256(payload).hexdigest() != header.sha256:
        raise IntegrityError(f"{where}: damaged: its bytes do not match its sha256. Copy it again.")
    return header, payload


def _steps(
    model: Autoencoder, images: NDArray[Any], z: NDArray[np.float64],
    log_var: Floats | None, labels: NDArray[np.int64] | None, loss: float,
) -> NDArray[np.float64]:  # fmt: skip
    """Return the coarsest steps f64[D] whose reconstructions are within `loss`.

    They are proportional to the posterior's standard deviations, which say how precisely the
    decoder needs a dimension; without a posterior, to those of the latents.
    """
    if log_var is not None:
        base = np.sqrt(np.exp(log_var.reshape(len(z), -1), dtype=np.float64).mean(axis=0))
    else:
        base = z.std(axis=0) / 4
    base = np.maximum(base, np.abs(z).max(axis=0, initial=1e-6) / _LARGEST)
    rows = np.linspace(0, len(z) - 1, min(len(z), _TRIED)).astype(np.int64)
    originals = to_float32(images[rows])
    some = None if labels is None else labels[rows]

    def error(latents: NDArray[np.float64]) -> float:
        shaped = latents.astype(np.float32).reshape(-1, *model.spec.latent_shape)
        decoded = model.decode(shaped, some)
        return float(np.square(decoded - originals, dtype=np.float64).mean())

    allowed = (1 + loss) * error(z[rows])
    for factor in _FACTORS:
        step = np.asarray(base * factor)
        if error(np.rint(z[rows] / step) * step) <= allowed:
            return step
    return np.asarray(base * _FACTORS[-1])


def _encode(
    model: Autoencoder, levels: NDArray[np.int32], step: NDArray[np.float64],
    labels: NDArray[np.int64] | None,
) -> tuple[Header, bytes]:  # fmt: skip
    coder = _stream().queue.RangeEncoder()
    mean = levels.mean(axis=0).round(3)
    std = np.maximum(levels.std(axis=0), 0.1).round(3)
    bound = int(max(1, np.abs(levels).max()))
    family = _stream().model.QuantizedGaussian(-bound, bound)
    n = len(levels)
    coder.encode(levels.ravel(), family, np.tile(mean, n), np.tile(std, n))
    if labels is not None:
        uniform = _stream().model.Uniform(max(2, len(model.spec.classes) + 1))
        coder.encode(labels.astype(np.int32), uniform)
    payload = coder.get_compressed().astype("<u4").tobytes()
    digest = hashlib.sha256(payload).hexdigest()
    header = Header(
        model.spec.id, n, step.tolist(), mean.tolist(), std.tolist(), bound,
        labels is not None, digest,
    )  # fmt: skip
    return header, payload


def _decode(
    header: Header, payload: bytes, n_classes: int
) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
    """Return the quantised latents i32[N, D], and the labels i64[N] if there are any."""
    coder = _stream().queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
    family = _stream().model.QuantizedGaussian(-header.bound, header.bound)
    mean, std = (np.tile(values, header.n) for values in (header.mean, header.std))
    levels = coder.decode(family, mean, std).reshape(header.n, -1)
    if not header.labelled:
        return levels, None
    uniform = _stream().model.Uniform(max(2, n_classes + 1))
    return levels, coder.decode(uniform, header.n).astype(np.int64)


def _stream() -> Any:
    """Return the module with the range coder; type checkers do not see it in a compiled package."""
    import constriction

    package: Any = constriction
    return package.stream
