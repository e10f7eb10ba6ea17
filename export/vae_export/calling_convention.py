"""A stranger's modules behind the bundle's interface: its names, shapes and ranges.

Whatever `encode` and `decode` return is unpacked here: tensors, tuples, objects and dictionaries
with the field's usual names, distributions of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_runtime.errors import UsageError

SPREADS: dict[str, Callable[[Tensor], Tensor]] = {
    "log_var": lambda s: s,
    "var": torch.log,
    "std": lambda s: 2 * torch.log(s),
    "log_std": lambda s: 2 * s,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "sigmoid": torch.sigmoid,
    "clip": lambda image: image.clamp(0, 1),
    "tanh": lambda image: (image + 1) / 2,
}
NO_WIDTH = -20.0  # a log variance: a standard deviation of 5e-5
_MEANS = ("mu", "mean", "loc", "z_mean", "mu_z", "embedding")
_SPREADS = {
    "log_var": ("log_var", "logvar", "log_variance", "z_log_var", "log_covariance"),
    "var": ("var", "variance"),
    "std": ("std", "scale", "stddev", "sigma"),
    "log_std": ("log_std", "logstd", "log_scale"),
}
_CODES = ("z", "code", "latents", "latent", "latents", "embedding")
_INNER = ("latent_dist", "posterior", "q", "dist")
_IMAGES = (
    "reconstruction",
    "recon",
    "recon_x",
    "x_hat",
    "image",
    "images",
    "sample",
    "output",
    "out",
)


@dataclass(frozen=True)
class Form:
    """How a stranger's modules speak.

    Attributes:
        encode: image[, label] → a code, or what describes a distribution.
        decode: z[, label] → an image.
        classes: K; 0 where no label is taken.
        one_hot: whether labels are f32[N, K] instead of i64[N].
        null_label: what stands for "no label" where labels are indices.
        labelled_encoder: whether `encode` takes the label.
        spread: what the second tensor of a pair is: `log_var`, `var`, `std` or `log_std`.
        activation: what makes the decoder's output an image in [0, 1]: `none`, `sigmoid` (it gives
            logits), `tanh` (it gives [-1, 1]) or `clip`.
        signed: whether the encoder wants pixels in [-1, 1].
    """

    encode: nn.Module
    decode: nn.Module
    classes: int = 0
    one_hot: bool = False
    null_label: int = 0
    labelled_encoder: bool = False
    spread: str = "log_var"
    activation: str = "none"
    signed: bool = False


class Method(nn.Module):
    """One method of a module as a module of its own, sharing its weights."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *arguments: Tensor) -> Any:
        """What the method returns."""
        return getattr(self.module, self.name)(*arguments)


class Labels(nn.Module):
    """Labels of the bundle, i64[N] in [0, K] where K means none, in the stranger's own form."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        k = form.classes
        # Without a label: every class a little, as the mean of all rows of a linear layer.
        rows = torch.cat([torch.eye(k), torch.full((1, k), 1 / k)]) if form.one_hot else None
        index = torch.tensor([*range(k), form.null_label])
        self.register_buffer("table", index if rows is None else rows)

    def forward(self, label: Tensor) -> Tensor:
        """i64[N] → i64[N], or f32[N, K] where one-hot labels are wanted."""
        return self.get_buffer("table").index_select(0, label)


class ForeignEncoder(nn.Module):
    """image[, label] → z, or mu and log_var."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.encode = form.encode
        self.labels = Labels(form) if form.labelled_encoder else None

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """f32[N, C, H, W] in [0, 1][, i64[N]] → f32[N, D], one or two of them."""
        image = image * 2 - 1 if self.form.signed else image
        given = (image,) if self.labels is None or label is None else (image, self.labels(label))
        found = unpack_latents(self.encode(*given), self.form.spread)
        if not isinstance(found, Tensor):
            return found[0].flatten(1), found[1].flatten(1)
        z = found.flatten(1)
        # The bundle's conditional encoders give a distribution; of a plain code, one without width.
        return (z, torch.full_like(z, NO_WIDTH)) if self.form.classes else z


class ForeignDecoder(nn.Module):
    """z[, label] → image."""

    def __init__(self, form: Form, latent_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.form = form
        self.decode = form.decode
        self.latent_shape = latent_shape
        self.labels = Labels(form) if form.classes else None

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """f32[N, D][, i64[N]] → f32[N, C, H, W] in [0, 1]."""
        code = z if len(self.latent_shape) == 1 else torch.unflatten(z, 1, self.latent_shape)
        if self.labels is None:
            image = unpack_image(self.decode(code))
        else:
            if label is None:
                label = torch.full_like(z[:, 0], self.form.classes, dtype=torch.int64)
            image = unpack_image(self.decode(code, self.labels(label)))
        return ACTIVATIONS[self.form.activation](image)


def unpack_latents(found: Any, spread: str = "log_var") -> Tensor | tuple[Tensor, Tensor]:
    """What `encode` returned → a code, or mean and log variance.

    Raises:
        UsageError: it holds something else, or more than is understood.
    """
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Distribution):
        return _normal(found)
    if isinstance(found, (tuple, list)) and not hasattr(found, "_fields"):
        return _pair(found, spread)
    for name in _INNER:
        if (inner := _get(found, name)) is not None:
            return unpack_latents(inner, spread)
    mean = _first(found, _MEANS)
    for kind, names in _SPREADS.items():
        if mean is not None and (value := _first(found, names)) is not None:
            return mean, SPREADS[kind](value)
    code = _first(found, _CODES)
    if code is None:
        raise UsageError(
            f"encode: returned {type(found).__name__}, expected a tensor, (mu, log_var), a normal "
            "distribution, or an object with such fields. Wrap the module."
        )
    return code


def unpack_image(found: Any) -> Tensor:
    """What `decode` returned → the image, or its mean.

    Raises:
        UsageError: no image in it.
    """
    if isinstance(found, Tensor):
        return found
    if isinstance(found, Distribution):
        return found.mean
    if isinstance(found, (tuple, list)) and found and isinstance(found[0], (Tensor, Distribution)):
        return unpack_image(found[0])
    image = _first(found, _IMAGES)
    if image is None:
        raise UsageError(
            f"decode: returned {type(found).__name__}, expected a tensor, a tuple that begins with "
            "one, a distribution, or an object with such a field. Wrap the module."
        )
    return image


def _pair(found: tuple[Any, ...] | list[Any], spread: str) -> Tensor | tuple[Tensor, Tensor]:
    if len(found) == 1:
        return unpack_latents(found[0], spread)
    if len(found) == 2 and all(isinstance(part, Tensor) for part in found):
        return found[0], SPREADS[spread](found[1])
    kinds = ", ".join(type(part).__name__ for part in found)
    raise UsageError(
        f"encode: returned ({kinds}), expected one tensor or (mu, log_var). Wrap the module "
        "so that encode returns these alone."
    )


def _normal(found: Distribution) -> tuple[Tensor, Tensor]:
    base = found.base_dist if isinstance(found, Independent) else found
    if not isinstance(base, Normal):
        raise UsageError(
            f"encode: returned a {type(found).__name__} distribution, expected Normal, or "
            "Independent of it."
        )
    return base.loc, 2 * torch.log(base.scale)


def _get(found: Any, name: str) -> Any:
    if isinstance(found, Mapping):
        return found.get(name)
    value = getattr(found, name, None)
    return None if callable(value) and not isinstance(value, Tensor) else value


def _first(found: Any, names: tuple[str, ...]) -> Tensor | None:
    """The first of these fields that is a tensor."""
    for name in names:
        if isinstance(value := _get(found, name), Tensor):
            return value
    return None
