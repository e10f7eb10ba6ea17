"""Specs of models, graphs, tensors and files, as stored in `manifest.json` and graph metadata."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from math import inf, prod
from typing import Any

from ..errors import InputError
from ..files.json_fields import parse_json, take, take_list, take_number
from ..prior import Prior

FORMAT = "1.0"
METADATA_KEY = "vae_onnx"  # the key of the ONNX metadata that holds a graph's spec as JSON
FAMILIES = ("ae", "vae", "cvae")
LIKELIHOODS = ("bernoulli", "gaussian")
ROLES = ("encoder", "decoder", "conditional_decoder", "sampler")
VARIANTS = ("fp32", "fp16", "int8", "uint8")
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's names of modes, by number of channels
MAX_FILE = 2 << 30  # bytes; protobuf's own limit for one message
_MAX_SIDE = 16384
_MAX_AXES = 8
_MAX_CLASSES = 1_000_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class ImageSpec:
    """The shape of a model's images, whose pixels are in [0, 1]."""

    channels: int
    height: int
    width: int

    @property
    def mode(self) -> str:
        """Pillow's name for this kind of image: `L`, `LA`, `RGB` or `RGBA`."""
        return MODES[self.channels]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W)."""
        return self.channels, self.height, self.width


@dataclass(frozen=True, repr=False)
class ModelSpec:
    """The description of a model, which all graphs of its bundle share.

    Attributes:
        id: identifies the bundle; graphs with different ids cannot be combined.
        family: `ae`, `vae` or `cvae`.
        image: shape of the images.
        latent_shape: shape of one image's latents: (D,), or for example (4, 32, 32).
        classes: class names; empty if the decoder takes no label.
        likelihood: `bernoulli` or `gaussian`; it selects the reconstruction error of `score`.
        prior: the distribution that `sample` draws latents from.
        sigma: standard deviation per pixel of a `gaussian` likelihood, for pixels in [0, 1]. None
            if no sigma was learned; `score` then uses the squared error.
    """

    id: str
    family: str
    image: ImageSpec
    latent_shape: tuple[int, ...]
    classes: tuple[str, ...]
    likelihood: str
    prior: Prior
    sigma: float | None = None

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions: the product of `latent_shape`."""
        return prod(self.latent_shape)

    @property
    def summary(self) -> str:
        """The model in a few words, such as `cvae of 28×28 L images, latent_dim 16, 10 classes`."""
        image = self.image
        classes = f", {len(self.classes)} classes" if self.classes else ""
        size = f"{image.height}×{image.width} {image.mode}"
        return f"{self.family} of {size} images, latent_dim {self.latent_dim}{classes}"

    def __repr__(self) -> str:
        return f"<ModelSpec {self.id}: {self.summary}>"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON with its keys in a fixed order."""
        image = self.image
        return {
            "format": FORMAT,
            "id": self.id,
            "family": self.family,
            "image": {
                "mode": image.mode,
                "channels": image.channels,
                "height": image.height,
                "width": image.width,
                "range": [0.0, 1.0],
            },
            "latent_shape": list(self.latent_shape),
            "classes": list(self.classes),
            "likelihood": self.likelihood,
            **({} if self.sigma is None else {"sigma": self.sigma}),
            "prior": self.prior.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> ModelSpec:
        """Parse and check the output of `to_json`; every error message begins with `where`.

        Raises:
            InputError: a value is missing, has the wrong type, is out of range or contradicts
                another.
        """
        check_format(take(data, "format", str, where), where)
        image = take(data, "image", dict, where)
        spec = cls(
            id=take(data, "id", str, where),
            family=take(data, "family", str, where),
            image=ImageSpec(*(take(image, k, int, where) for k in ("channels", "height", "width"))),
            latent_shape=take_list(data, "latent_shape", int, where),
            classes=(classes := take_list(data, "classes", str, where)),
            likelihood=take(data, "likelihood", str, where),
            prior=Prior.from_json(take(data, "prior", dict, where), classes),
            sigma=take_number(data, "sigma", where) if "sigma" in data else None,
        )
        spec._check(image, where)
        return spec

    def _check(self, image: dict[str, Any], where: str) -> None:
        mode = take(image, "mode", str, where)
        limits = take(image, "range", list, where)
        c, h, w = self.image.shape
        fits = {
            f"family {self.family!r}": self.family in FAMILIES,
            f"likelihood {self.likelihood!r}": self.likelihood in LIKELIHOODS,
            f"sigma {self.sigma}": self.sigma is None
            or (self.likelihood == "gaussian" and 0 < self.sigma < inf),
            f"image {mode} {c}×{h}×{w}": mode == MODES.get(c)
            and 1 <= h <= _MAX_SIDE
            and 1 <= w <= _MAX_SIDE,
            f"image range {limits}": limits == [0, 1] and bool not in map(type, limits),
            f"latent_shape {list(self.latent_shape)}": 1 <= len(self.latent_shape) <= _MAX_AXES
            and min(self.latent_shape) >= 1
            and self.latent_dim == self.prior.latent_dim,
            f"prior of {self.prior.rows} mixtures": self.prior.kind != "class_gmm"
            or self.prior.rows == len(self.classes) + 1,
            f"{len(self.classes)} classes": len(self.classes) <= _MAX_CLASSES
            and len(set(self.classes)) == len(self.classes)
            and (self.family == "cvae") == bool(self.classes),
        }
        for what, ok in fits.items():
            if not ok:
                raise InputError(f"{where}: {what} does not fit the rest. The file is not valid.")


@dataclass(frozen=True)
class FileSpec:
    """A file of the bundle: its name, its size in bytes and its sha256."""

    file: str
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, data: Any, where: str) -> FileSpec:
        """Parse and check a file's entry; its name must not be a path.

        Raises:
            InputError: a value is missing, has the wrong type or is out of range.
        """
        spec = FileSpec(
            take(data, "file", str, where),
            take(data, "bytes", int, where),
            take(data, "sha256", str, where),
        )
        plain = _FILE_NAME.fullmatch(spec.file) and _SHA256.fullmatch(spec.sha256)
        if not plain or not 1 <= spec.bytes <= MAX_FILE:
            raise InputError(f"{where}: file {spec.file!r}: expected a plain name, size and sha256")
        return spec


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; its first axis is `batch`, the others have fixed sizes."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @classmethod
    def from_json(cls, data: Any, where: str) -> TensorSpec:
        """Parse; `Manifest` checks that the result fits the model.

        Raises:
            InputError: a value is missing or has the wrong type.
        """
        shape = tuple(take(data, "shape", list, where))
        spec = cls(take(data, "name", str, where), take(data, "dtype", str, where), shape)
        if not all(type(n) is int for n in shape[1:]):  # a bool is an int, and 1.0 equals 1
            raise InputError(f"{where}: tensor {spec.name!r}: expected integers in its shape")
        return spec


@dataclass(frozen=True)
class GraphSpec:
    """A graph: its role, its variant (precision or output type), its file and its tensors."""

    role: str
    variant: str
    file: FileSpec
    opset: int
    ir: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON, with the fields of `file` at the top level."""
        data = asdict(self)
        return {"role": self.role, "variant": self.variant, **data.pop("file")} | data

    @classmethod
    def from_json(cls, data: Any, where: str) -> GraphSpec:
        """Parse; `Manifest` checks that the result fits the model.

        Raises:
            InputError: a value is missing or has the wrong type.
        """
        return cls(
            take(data, "role", str, where),
            take(data, "variant", str, where),
            FileSpec.from_json(data, where),
            take(data, "opset", int, where),
            take(data, "ir", int, where),
            tuple(TensorSpec.from_json(t, where) for t in take(data, "inputs", list, where)),
            tuple(TensorSpec.from_json(t, where) for t in take(data, "outputs", list, where)),
        )


def expected_tensors(
    spec: ModelSpec, role: str, variant: str, *, labelled: bool
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs that a graph of this model must have, in order.

    Args:
        spec: the model.
        role: one of ROLES.
        variant: one of VARIANTS.
        labelled: whether the encoder of a conditional model takes a label.
    """
    encodes, samples = role == "encoder", role == "sampler"
    pixels = "uint8" if variant == "uint8" and not encodes else "float32"
    image = TensorSpec("image", pixels, ("batch", *spec.image.shape))
    names = ("mu", "log_var") if encodes and spec.family != "ae" else ("z",)
    latents = tuple(TensorSpec(name, "float32", ("batch", *spec.latent_shape)) for name in names)
    conditional = role == "conditional_decoder" or (encodes and labelled) or samples
    label = (TensorSpec("label", "int64", ("batch",)),) if conditional and spec.classes else ()
    if samples:
        noise = TensorSpec("noise", "float32", ("batch", spec.latent_dim + 1))
        return (noise, *label), (image, *latents)
    return ((image, *label), latents) if encodes else ((*latents, *label), (image,))


def check_format(version: str, where: str) -> None:
    """Check that this runtime supports the major version of the format.

    Raises:
        InputError: the version is not supported; the message gives the upgrade command.
    """
    if version.split(".")[0] != FORMAT.split(".")[0]:
        raise InputError(
            f"{where}: bundle format {version}, this runtime reads {FORMAT}. "
            "Upgrade: pip install -U vae-onnx"
        )


def parse_spec(text: str, where: str) -> tuple[ModelSpec, str, str]:
    """Parse a graph's metadata; return its model's spec, its role and its variant.

    Raises:
        InputError: see `ModelSpec.from_json`.
    """
    data = parse_json(text, f"{where}: its metadata")
    spec = ModelSpec.from_json(data, where)
    return spec, take(data, "role", str, where), take(data, "variant", str, where)


def same_id(text: str, spec: ModelSpec) -> bool:
    """Return whether a graph's metadata `text` begins with this model's id.

    For graphs whose bytes match the manifest, this avoids parsing a mixture's long arrays again.
    False may mean only that the metadata is in another order; `parse_spec` then decides.
    """
    return text.startswith(json.dumps({"format": FORMAT, "id": spec.id})[:-1].replace(" ", ""))
