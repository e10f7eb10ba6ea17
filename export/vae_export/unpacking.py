"""Find latents and images in the return values of a custom module.

`encode` and `decode` may return tensors, tuples, torch distributions, or objects and dictionaries
with conventional field names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae_runtime.errors import UsageError

Latents = Tensor | tuple[Tensor, Tensor]

# Conversions from the second tensor that `encode` returns to log_var.
_TO_LOG_VAR: dict[str, Callable[[Tensor], Tensor]] = {
    "log_var": lambda s: s,
    "var": torch.log,
    "std": lambda s: 2 * torch.log(s),
    "log_std": lambda s: 2 * s,
}
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


def unpack_latents(
    returned: Any, spread: str = "log_var", chosen: tuple[int, int] | None = None
) -> Latents:
    """Find the latents, or mu and log_var, in the return value of `encode`.

    Args:
        returned: a tensor, a tuple of tensors, a normal distribution, or an object or mapping with
            fields of these types.
        spread: the meaning of the second tensor of a pair, one of `vae_export.options.SPREADS`.
        chosen: indices of mu and log_var in a tuple of more than two elements.

    Raises:
        UsageError: `returned` is none of these.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Distribution):
        return _unpack_normal(returned)
    if isinstance(returned, (tuple, list)) and not hasattr(returned, "_fields"):
        return _unpack_tuple(returned, spread, chosen)
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
    """Find the image in the return value of `decode`; for a distribution, its mean.

    Raises:
        UsageError: `returned` contains no image.
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


def _unpack_tuple(
    returned: tuple[Any, ...] | list[Any], spread: str, chosen: tuple[int, int] | None
) -> Latents:
    if chosen is not None:
        returned = [returned[i] for i in chosen]
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
    """Return the value of a key or attribute; None if it is missing or a method."""
    if isinstance(returned, Mapping):
        return returned.get(name)
    value = getattr(returned, name, None)
    return None if callable(value) and not isinstance(value, Tensor) else value


def _first_tensor(returned: Any, names: tuple[str, ...]) -> Tensor | None:
    """Return the first of the named fields that is a tensor."""
    for name in names:
        if isinstance(value := _field(returned, name), Tensor):
            return value
    return None
