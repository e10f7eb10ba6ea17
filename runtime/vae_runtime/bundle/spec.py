"""What a graph knows about itself: the part of the manifest that every `.onnx` file carries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf
from typing import Any

from ..errors import InputError
from ..files.json_fields import parse_json, take, take_list, take_number
from ..prior import Prior

FORMAT = "1.0"
METADATA_KEY = "vae_onnx"  # of the ONNX metadata property that holds a spec as JSON
FAMILIES = ("ae", "vae", "cvae")
LIKELIHOODS = ("bernoulli", "gaussian")
_LARGEST_SIDE = 16384
_MAX_CLASSES = 1_000_000


@dataclass(frozen=True)
class ImageSpec:
    """The pictures of a model: `mode` is `L` or `RGB`; pixels lie in [0, 1]."""

    channels: int
    height: int
    width: int

    @property
    def mode(self) -> str:
        """Pillow's name for this kind of picture."""
        return "L" if self.channels == 1 else "RGB"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


@dataclass(frozen=True)
class ModelSpec:
    """The facts that all graphs of one bundle share.

    Attributes:
        id: the bundle's id; graphs of two bundles never work together.
        family: `ae`, `vae` or `cvae`.
        image: shape of the pictures.
        latent_dim: D, the length of a code.
        classes: class names; empty where the decoder takes no label.
        likelihood: `bernoulli` or `gaussian`, how `score` reads a reconstruction error.
        prior: what `sample` draws latents from.
        sigma: standard deviation of the pixels in a `gaussian` likelihood, in units of [0, 1]; None
            where none was learned, and `score` then takes the squared error as it is.
    """

    id: str
    family: str
    image: ImageSpec
    latent_dim: int
    classes: tuple[str, ...]
    likelihood: str
    prior: Prior
    sigma: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, in a fixed order."""
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
            "latent_dim": self.latent_dim,
            "classes": list(self.classes),
            "likelihood": self.likelihood,
            **({} if self.sigma is None else {"sigma": self.sigma}),
            "prior": self.prior.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> ModelSpec:
        """Read what `to_json` wrote; `where` begins every error message.

        Raises:
            InputError: a value is missing, of another type, out of range, or does not fit another.
        """
        check_format(take(data, "format", str, where), where)
        image = take(data, "image", dict, where)
        spec = cls(
            id=take(data, "id", str, where),
            family=take(data, "family", str, where),
            image=ImageSpec(*(take(image, k, int, where) for k in ("channels", "height", "width"))),
            latent_dim=take(data, "latent_dim", int, where),
            classes=take_list(data, "classes", str, where),
            likelihood=take(data, "likelihood", str, where),
            prior=Prior.from_json(take(data, "prior", dict, where)),
            sigma=take_number(data, "sigma", where) if "sigma" in data else None,
        )
        spec._check(image, where)
        return spec

    def _check(self, image: dict[str, Any], where: str) -> None:
        mode = take(image, "mode", str, where)
        limits = take(image, "range", list, where)
        c, h, w = self.image.shape
        rows = len(self.classes) + 1
        fits = {
            f"family {self.family!r}": self.family in FAMILIES,
            f"likelihood {self.likelihood!r}": self.likelihood in LIKELIHOODS,
            f"sigma {self.sigma}": self.sigma is None
            or (self.likelihood == "gaussian" and 0 < self.sigma < inf),
            f"image {mode} {c}×{h}×{w}": c in (1, 3)
            and mode == self.image.mode
            and 1 <= h <= _LARGEST_SIDE
            and 1 <= w <= _LARGEST_SIDE,
            f"image range {limits}": limits == [0, 1] and bool not in map(type, limits),
            f"prior of {self.prior.latent_dim} dimensions": self.prior.latent_dim
            == self.latent_dim,
            f"prior of {self.prior.rows} mixtures": self.prior.kind != "class_gmm"
            or self.prior.rows == rows,
            f"{len(self.classes)} classes": len(self.classes) <= _MAX_CLASSES
            and len(set(self.classes)) == len(self.classes)
            and (self.family == "cvae") == bool(self.classes),
        }
        for what, ok in fits.items():
            if not ok:
                raise InputError(f"{where}: {what} does not fit the rest. The file is not valid.")


def check_format(version: str, where: str) -> None:
    """Refuse a bundle whose major format version this runtime does not know.

    Raises:
        InputError: with what to upgrade.
    """
    major = version.split(".")[0]
    if major != FORMAT.split(".")[0]:
        raise InputError(
            f"{where}: bundle format {version}, this runtime reads {FORMAT}. "
            "Upgrade: pip install -U vae-onnx"
        )


def parse_spec(text: str, where: str) -> tuple[ModelSpec, str, str]:
    """A graph's metadata → its spec, its role (`encoder` …) and its variant (`fp32` …)."""
    data = parse_json(text, f"{where}: its metadata is not JSON")
    spec = ModelSpec.from_json(data, where)
    return spec, take(data, "role", str, where), take(data, "variant", str, where)


def same_id(text: str, spec: ModelSpec) -> bool:
    """Whether a graph's metadata, as `to_json` orders it, begins with the id of this spec.

    For a graph whose bytes the manifest vouches for: its spec need not be parsed again, and a
    mixture's arrays are long. Where it does not begin so, `parse_spec` still may find that id.
    """
    return text.startswith(json.dumps({"format": FORMAT, "id": spec.id})[:-1].replace(" ", ""))
