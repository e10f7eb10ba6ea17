"""Compare a bundle's reconstructions with those of the custom module's own `forward`.

Calling the encoder and decoder of a module separately may omit something, such as a quantiser
between them or a layer outside a trunk. Its own `forward` omits nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vae_runtime.errors import IntegrityError

from .call import OneFloat
from .calling_convention import (
    CallingConvention,
    HeadsOutside,
    from_module_range,
    to_module_range,
)
from .unpacking import unpack_image
from .user_code import user_line

_ADD = "add methods encode and decode that include this"
TOLERANCE = 1e-4  # largest difference of a pixel in [0, 1]; torch computes both in float32


@dataclass(frozen=True)
class ForwardComparison:
    """Result of comparing `forward` with encoder and decoder; both use the posterior mean.

    Attributes:
        images: the number of images.
        difference: the largest difference between two pixel values in [0, 1]; None if `forward` was
            not compared.
        reason: why `forward` was not compared; empty if it was.
    """

    images: int
    difference: float | None
    reason: str = ""

    def line(self) -> str:
        """Describe the result in one line."""
        if self.difference is None:
            return f"forward: not compared: {self.reason}"
        return f"forward: reconstructs the same {self.images} images, to {self.difference:.1e}"

    def to_json(self) -> dict[str, Any]:
        """Return plain values for the manifest."""
        if self.difference is None:
            return {"not_compared": self.reason}
        return {"images": self.images, "max_abs_difference": float(f"{self.difference:.3g}")}


class _NoNoise(TorchFunctionMode):
    """Torch mode that replaces normal noise by its mean, so samples equal the posterior mean."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in (torch.randn, torch.randn_like):
            return torch.zeros_like(result)
        if func is torch.normal:
            mean = args[0] if args else kwargs.get("mean", 0.0)
            return torch.zeros_like(result) + mean
        if func is Tensor.normal_:
            return result.fill_(args[1] if len(args) > 1 else kwargs.get("mean", 0.0))
        return result


def compare_forward(
    convention: CallingConvention,
    encoder: nn.Module,
    decoder: nn.Module,
    images: Tensor,
    labels: Tensor | None,
) -> ForwardComparison:
    """Compare the two reconstructions of real images, decoded from the posterior mean.

    Args:
        convention: the calling convention of the custom module.
        encoder: the wrapped encoder that becomes a graph.
        decoder: the wrapped decoder.
        images: f32[N, C, H, W] in [0, 1].
        labels: i64[N]; None if the module takes no labels.

    Raises:
        IntegrityError: the reconstructions differ; the message names the likely cause.
    """
    n, options = len(images), convention.options
    whole = convention.whole
    if whole is None or type(whole).forward is nn.Module.forward:
        return ForwardComparison(n, None, "the module has no forward")
    pixels = to_module_range(images, options)
    arguments = [pixels.flatten(1) if convention.flat else pixels]
    needed = [
        p.name
        for p in inspect.signature(whole.forward).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if len(needed) == 2 and labels is not None:
        one_hot = convention.decode.one_hot
        arguments.append(torch.eye(len(options.classes))[labels] if one_hot else labels)
    elif len(needed) > 1:
        return ForwardComparison(n, None, f"forward takes {', '.join(needed)}")
    errors: list[Exception] = []
    # Libraries such as pythae pass batches as dictionaries.
    for given in (arguments, [{"data": arguments[0]}]):
        try:
            with OneFloat(torch.float32), _NoNoise(), _seen_modules(whole) as by_forward:
                returned = unpack_image(whole(*given))
            break
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            errors.append(error)
    else:
        return ForwardComparison(n, None, f"forward failed: {user_line(errors[0])}")
    with _seen_modules(whole) as by_us:
        latents = encoder(images, labels) if labels is not None else encoder(images)
        mean = latents[0] if isinstance(latents, tuple) else latents
        ours = decoder(mean, labels) if labels is not None else decoder(mean)
    if returned.numel() != ours.numel():
        return ForwardComparison(n, None, f"forward returns {list(returned.shape)}")
    theirs = returned.reshape(ours.shape)
    # A forward may end with the activation that `decode` leaves to the loss.
    difference = min(
        float((image - ours).abs().max()) for image in (from_module_range(theirs, options), theirs)
    )
    if not difference <= TOLERANCE:
        raise IntegrityError(
            f"forward: its images differ from decoder(encoder(image)) by up to {difference:.3g} of "
            f"a pixel. {_likely_cause(convention, by_forward - by_us)} "
            "Leave the comparison out with compare_forward=False (--no-compare-forward)."
        )
    return ForwardComparison(n, difference)


@contextmanager
def _seen_modules(whole: nn.Module) -> Iterator[set[str]]:
    """Collect the names of the submodules that run in this block."""
    seen: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda module, inputs: seen.add(name)

    hooks = [m.register_forward_pre_hook(note(name)) for name, m in whole.named_modules() if name]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _likely_cause(convention: CallingConvention, left_out: set[str]) -> str:
    """Describe the likely cause, such as submodules that only `forward` runs."""
    outer = sorted(name for name in left_out if name.rpartition(".")[0] not in left_out)
    if outer:
        names, verb = ", ".join(outer[:4]), "run" if len(outer) > 1 else "runs"
        methods = convention.encode.method or convention.decode.method
        remedy = "include this in encode or decode" if methods else _ADD
        return f"{names} {verb} in forward, but neither in encoding nor in decoding: {remedy}."
    if isinstance(convention.encode.module, HeadsOutside):
        return "Something is between the heads and the decoder: add methods encode and decode."
    return "forward probably rescales or adds something that encode and decode leave out."
