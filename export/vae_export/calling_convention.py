"""The calling convention of a custom module: what its methods take and what they return.

`encode` and `decode` may return tensors, tuples, torch distributions, or objects and dictionaries
whose fields have the usual names.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae_runtime.errors import UsageError

from .options import CustomModuleOptions

Modules = nn.Module | tuple[nn.Module, nn.Module]

# Convert the second tensor that `encode` returns to log_var.
_TO_LOG_VAR: dict[str, Callable[[Tensor], Tensor]] = {
    "log_var": lambda s: s,
    "var": torch.log,
    "std": lambda s: 2 * torch.log(s),
    "log_std": lambda s: 2 * s,
}
_LABEL = re.compile(r"^(labels?|y|cls|class(es)?(_(labels?|ids?|idx))?|c|cond(ition)?)$")
# Field names, in the order in which they are tried.
_MEANS = ("mu", "mean", "loc", "z_mean", "mu_z", "embedding")
_SPREADS = {
    "log_var": ("log_var", "logvar", "log_variance", "z_log_var", "log_covariance"),
    "var": ("var", "variance"),
    "std": ("std", "scale", "stddev", "sigma"),
    "log_std": ("log_std", "logstd", "log_scale"),
}
_LATENTS = ("z", "code", "codes", "latent", "latents", "embedding")
_DISTRIBUTIONS = ("latent_dist", "posterior", "q", "dist")
_IMAGES = (
    "reconstruction", "recon", "recon_x", "x_hat", "image", "images", "sample", "output", "out",
)  # fmt: skip


@dataclass(frozen=True)
class CallingConvention:
    """How to call a custom module.

    Attributes:
        encode: image[, label] → latents, or the parameters of a distribution.
        decode: z[, label] → image.
        options: the properties that the caller named.
        labelled_encoder: whether `encode` takes the label.
        null_label: the index that means "no label", if labels are indices.
    """

    encode: nn.Module
    decode: nn.Module
    options: CustomModuleOptions
    labelled_encoder: bool = False
    null_label: int = 0


class Method(nn.Module):
    """Wrap one method of a module as a module that shares its weights."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module = module
        self.name = name

    def forward(self, *arguments: Tensor) -> Any:
        """Call the method."""
        return getattr(self.module, self.name)(*arguments)


def find_calling_convention(module: Modules, options: CustomModuleOptions) -> CallingConvention:
    """Find a module's encoder and decoder, and how they take labels.

    The module is copied; the copy is in evaluation mode, on the CPU, in float32.

    Raises:
        UsageError: the module has no encoder or decoder, or its index for "no label" is unknown.
    """
    encode, decode = _split(copy.deepcopy(module))
    for part in (encode, decode):
        part.to("cpu", torch.float32).eval()
    labelled_encoder = bool(options.classes) and _takes_label(encode)
    null_label = 0
    if options.classes and not options.one_hot:
        null_label = _null_label((encode, decode), options)
    return CallingConvention(encode, decode, options, labelled_encoder, null_label)


def _split(module: Modules) -> tuple[nn.Module, nn.Module]:
    """Return the encoder and the decoder, each as a module."""
    if isinstance(module, tuple):
        return module
    found: list[nn.Module] = []
    for method, attribute in (("encode", "encoder"), ("decode", "decoder")):
        if callable(getattr(module, method, None)):
            found.append(Method(module, method))
        elif isinstance(inner := getattr(module, attribute, None), nn.Module):
            found.append(inner)
        else:
            raise UsageError(
                f"{type(module).__name__}: has neither a method {method} nor a submodule "
                f"{attribute}. Add one, or pass the pair (encoder, decoder)."
            )
    return found[0], found[1]


def _takes_label(encode: nn.Module) -> bool:
    """Return whether the second parameter of `encode` has a usual name for labels."""
    function = getattr(encode.module, encode.name) if isinstance(encode, Method) else encode.forward
    names = list(inspect.signature(function).parameters)
    return len(names) > 1 and bool(_LABEL.match(names[1]))


def _null_label(parts: tuple[nn.Module, ...], options: CustomModuleOptions) -> int:
    """Return the index that means "no label"; extend an embedding that has no row for it."""
    k = len(options.classes)
    if options.null_label is not None:
        return options.null_label
    tables = {
        id(m): m for part in parts for m in part.modules() if isinstance(m, nn.Embedding)
    }.values()
    if any(table.num_embeddings == k + 1 for table in tables):
        return k
    small = [table for table in tables if table.num_embeddings == k]
    if not small:
        raise UsageError(
            f'the module has no embedding of {k} or {k + 1} rows, so its index for "no label" is '
            "unknown. Set null_label (--null-label) or one_hot (--one-hot)."
        )
    for table in small:
        rows = torch.cat([table.weight, table.weight.mean(0, keepdim=True)])
        table.weight = nn.Parameter(rows)
        table.num_embeddings = k + 1
    return k


def unpack_latents(returned: Any, spread: str = "log_var") -> Tensor | tuple[Tensor, Tensor]:
    """Find the latents, or mu and log_var, in the return value of `encode`.

    Args:
        returned: a tensor, a pair of tensors, a normal distribution, or an object or mapping with
            such fields.
        spread: the meaning of a pair's second tensor, one of `vae_export.options.SPREADS`.

    Raises:
        UsageError: `returned` holds none of these.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Distribution):
        return _unpack_normal(returned)
    if isinstance(returned, (tuple, list)) and not hasattr(returned, "_fields"):
        return _unpack_pair(returned, spread)
    for name in _DISTRIBUTIONS:
        if (inner := _field(returned, name)) is not None:
            return unpack_latents(inner, spread)
    mean = _first_tensor(returned, _MEANS)
    for kind, names in _SPREADS.items():
        if mean is not None and (value := _first_tensor(returned, names)) is not None:
            return mean, _TO_LOG_VAR[kind](value)
    latents = _first_tensor(returned, _LATENTS)
    if latents is None:
        raise UsageError(
            f"encode: returned {type(returned).__name__}, expected a tensor, (mu, log_var), a "
            "normal distribution, or an object with such fields. Wrap the module."
        )
    return latents


def unpack_image(returned: Any) -> Tensor:
    """Find the image in the return value of `decode`; take the mean of a distribution.

    Raises:
        UsageError: `returned` holds no image.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Distribution):
        return returned.mean
    first = returned[0] if isinstance(returned, (tuple, list)) and returned else None
    if isinstance(first, (Tensor, Distribution)):
        return unpack_image(first)
    image = _first_tensor(returned, _IMAGES)
    if image is None:
        raise UsageError(
            f"decode: returned {type(returned).__name__}, expected a tensor, a tuple that starts "
            "with one, a distribution, or an object with such a field. Wrap the module."
        )
    return image


def _unpack_pair(
    returned: tuple[Any, ...] | list[Any], spread: str
) -> Tensor | tuple[Tensor, Tensor]:
    if len(returned) == 1:
        return unpack_latents(returned[0], spread)
    if len(returned) == 2 and all(isinstance(part, Tensor) for part in returned):
        return returned[0], _TO_LOG_VAR[spread](returned[1])
    types = ", ".join(type(part).__name__ for part in returned)
    raise UsageError(
        f"encode: returned ({types}), expected one tensor or (mu, log_var). Wrap the module so "
        "that encode returns only these."
    )


def _unpack_normal(returned: Distribution) -> tuple[Tensor, Tensor]:
    base = returned.base_dist if isinstance(returned, Independent) else returned
    if not isinstance(base, Normal):
        raise UsageError(
            f"encode: returned a {type(returned).__name__} distribution, expected Normal or an "
            "Independent of Normal."
        )
    return base.loc, 2 * torch.log(base.scale)


def _field(returned: Any, name: str) -> Any:
    """Return an item of a mapping or an attribute; None if it is missing or a method."""
    if isinstance(returned, Mapping):
        return returned.get(name)
    value = getattr(returned, name, None)
    return None if callable(value) and not isinstance(value, Tensor) else value


def _first_tensor(returned: Any, names: tuple[str, ...]) -> Tensor | None:
    """Return the first of these fields that is a tensor."""
    for name in names:
        if isinstance(value := _field(returned, name), Tensor):
            return value
    return None
