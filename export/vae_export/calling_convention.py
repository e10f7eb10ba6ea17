"""The calling convention of a custom module: how it encodes and decodes, and its arguments.

The signature shows how labels are passed. Trying each form shows whether labels are indices or
one-hot rows, whether images are flattened, and which part of the encoder's output is mu.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vae_runtime.errors import UsageError

from .call import Call
from .options import CustomModuleOptions
from .unpacking import Latents, unpack_latents
from .user_code import copy_module, user_line

Modules = nn.Module | tuple[nn.Module, nn.Module]

# Names of layers after a trunk called `encoder`, with optional affixes such as `fc_`, `linear_` and
# `to_`.
_MEAN_HEADS = re.compile(r"^(\w+_)?(mu|mean|z_mean)(_\w+)?$")
_LOG_VAR_HEADS = re.compile(r"^(\w+_)?(log_?var|log_?variance|var|z_log_var)(_\w+)?$")
# Names of the two parts: a method, or else a submodule.
_ENCODERS, _DECODERS = ("encode", "encoder", "enc"), ("decode", "decoder", "dec")
_TRIED = 2  # number of images used to find the convention
# Attribute names under which wrappers store the wrapped module.
_WRAPPERS = ("module", "model", "net", "network", "vae", "autoencoder", "ae")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "sigmoid": torch.sigmoid,
    "tanh": lambda image: ((image + 1) / 2).clamp(0, 1),
    "clip": lambda image: image.clamp(0, 1),
}


class HeadsOutside(nn.Module):
    """An encoder trunk, and the two layers outside it that compute mu and log_var."""

    def __init__(self, trunk: nn.Module, mean: nn.Module, log_var: nn.Module) -> None:
        super().__init__()
        self.trunk, self.mean, self.log_var = trunk, mean, log_var

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode f32[N, C, H, W] to mu and log_var, each f32[N, D]."""
        hidden = self.trunk(image)
        if isinstance(self.mean, nn.Linear):
            hidden = hidden.flatten(1)
        return self.mean(hidden), self.log_var(hidden)


@dataclass(frozen=True)
class CallingConvention:
    """How to call a custom module.

    Attributes:
        encode: image[, label] → latents, or the parameters of a distribution.
        decode: z[, label] → image.
        options: properties of the module that the caller specified.
        whole: the module itself, if it can be called as a whole; else None.
        null_label: the index that means "no label", if labels are indices.
        chosen: indices of mu and log_var in a tuple of more than two elements; None for other
            return values.
        halves: `encode` returns mu and log_var as one tensor, f32[N, 2D] or f32[N, 2D, …].
        flat: the module takes and returns pixels as f32[N, C·H·W].
    """

    encode: Call
    decode: Call
    options: CustomModuleOptions
    null_label: int
    whole: nn.Module | None = None
    chosen: tuple[int, int] | None = None
    halves: bool = False
    flat: bool = False

    @property
    def labelled_encoder(self) -> bool:
        """Whether `encode` takes a label."""
        return self.encode.label is not None

    def call_encode(self, pixels: Tensor, label: Tensor | None) -> Any:
        """Call `encode` with f32[N, C, H, W] in the module's own range."""
        pixels = pixels.flatten(1) if self.flat else pixels
        return self.encode(pixels, label if self.labelled_encoder else None)

    def unpack(self, returned: Any) -> Latents:
        """Find the latents, or mu and log_var, in what `encode` returned."""
        if self.halves:
            returned = tuple(returned.chunk(2, dim=1))
        return unpack_latents(returned, self.options.spread, self.chosen)


def find_calling_convention(
    module: Modules, options: CustomModuleOptions, images: Tensor, labels: Tensor | None
) -> CallingConvention:
    """Find the encoder and decoder of a module, how they take labels, and what they return.

    The convention refers to a copy of the module, in evaluation mode, on the CPU and in float32.

    Args:
        module: the module, a wrapper around it, or a pair (encoder, decoder).
        options: properties of the module that the caller specifies.
        images: a few images f32[N, C, H, W] in [0, 1].
        labels: labels of the images, i64[N], if the module takes labels.

    Raises:
        UsageError: the module has no encoder or decoder, it cannot encode the images, or its index
            for "no label" is unknown.
    """
    whole = module if isinstance(module, tuple) else unwrap(module)
    whole = copy_module(whole)
    for part in whole if isinstance(whole, tuple) else (whole,):
        part.to("cpu", torch.float32).eval().requires_grad_(False)
    encode, decode = _split(whole)
    labelled = bool(options.classes)
    for call in (encode, decode):
        call.inspect(labelled=labelled)
        call.classes, call.one_hot = len(options.classes), options.one_hot
    if labelled and decode.label is None:
        raise UsageError(
            f"{decode.name}: takes no label, but classes are given. Leave them out, or add a "
            "parameter for the label."
        )
    k = len(options.classes)
    null_label = k if options.null_label is None else options.null_label
    found = CallingConvention(
        encode, decode, options, null_label, whole if isinstance(whole, nn.Module) else None
    )
    has_null = _add_null_rows(found) or options.one_hot or options.null_label is not None
    images = to_module_range(images[:_TRIED], options)
    labels = None if labels is None else labels[:_TRIED]
    returned, found = _try_encode(found, images, labels)
    found = replace(found, chosen=_choose(found, returned, images, labels))
    found = _fit_decoder(found, returned, images, labels)
    if labelled and not (has_null or decode.one_hot or decode.saw_one_hot):
        raise UsageError(
            f'the module has no embedding of {k} or {k + 1} rows, so its index for "no label" is '
            "unknown. Set null_label (--null-label) or one_hot (--one-hot)."
        )
    return found


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, torch.compile, a LightningModule or other wrappers.

    Raises:
        UsageError: neither the module nor anything that it wraps encodes and decodes.
    """
    pending: list[nn.Module] = [module]
    while pending:
        candidate = pending.pop(0)
        children = dict(candidate.named_children())
        if set(children) in ({"_orig_mod"}, {"module"}):
            # torch's own wrappers; the first forwards all attributes of the wrapped module.
            pending = [*children.values(), *pending]
            continue
        if _find_call(candidate, _ENCODERS) and _find_call(candidate, _DECODERS):
            return candidate
        pending += [children[name] for name in _WRAPPERS if name in children]
    raise UsageError(
        f"{type(module).__name__}: has neither methods encode and decode nor submodules encoder "
        "and decoder. Add them, or pass the pair (encoder, decoder)."
    )


def _find_call(module: nn.Module, names: tuple[str, ...]) -> Call | None:
    """Return the method or, if there is none, the submodule with one of these names."""
    if callable(getattr(module, names[0], None)):
        return Call(module, names[0], method=True)
    parts = {name: getattr(module, name, None) for name in names[1:]}
    found = [Call(p, name, method=False) for name, p in parts.items() if isinstance(p, nn.Module)]
    return found[0] if found else None


def _split(module: Modules) -> tuple[Call, Call]:
    """Return the encoder and the decoder, each as a `Call`."""
    if isinstance(module, tuple):
        return tuple(  # type: ignore[return-value]
            Call(part, name, method=False)
            for part, name in zip(module, ("encoder", "decoder"), strict=True)
        )
    encode, decode = _find_call(module, _ENCODERS), _find_call(module, _DECODERS)
    assert encode is not None  # `unwrap` found both
    assert decode is not None
    heads = [_only(module, pattern) for pattern in (_MEAN_HEADS, _LOG_VAR_HEADS)]
    if not encode.method and heads[0] is not None and heads[1] is not None:
        encode.module = HeadsOutside(encode.module, heads[0], heads[1])
    return encode, decode


def _only(module: nn.Module, pattern: re.Pattern[str]) -> nn.Module | None:
    """Return the only direct submodule whose name matches."""
    found = [child for name, child in module.named_children() if pattern.match(name)]
    return found[0] if len(found) == 1 else None


def _try_encode(
    found: CallingConvention, images: Tensor, labels: Tensor | None
) -> tuple[Any, CallingConvention]:
    """Try each form in which the module may take images and labels, the plainest first."""
    if found.encode.unknown:
        raise _unknown_parameters(found.encode, found.encode.unknown)
    errors: list[Exception] = []
    forms = dict.fromkeys((found.options.one_hot, True)) if found.labelled_encoder else (False,)
    for flat in (False, True):
        for found.encode.one_hot in forms:
            attempt = replace(found, flat=flat)
            try:
                return attempt.call_encode(images, labels), attempt
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                errors.append(error)
    if found.encode.absent:  # it does need the labels that were left out
        raise _unknown_parameters(found.encode, found.encode.absent) from errors[0]
    raise UsageError(
        f"{found.encode.name} failed on images of {tuple(images.shape[1:])}: "
        f"{user_line(errors[0])}. Was the module trained on such images?"
    )


def _unknown_parameters(call: Call, names: list[str]) -> UsageError:
    return UsageError(
        f"{call.name}: also takes {', '.join(names)}, which no graph of a bundle has. "
        "Wrap the module so that encode and decode pass fixed values, or pass classes if these "
        "are labels."
    )


def _fit_decoder(
    found: CallingConvention, returned: Any, images: Tensor, labels: Tensor | None
) -> CallingConvention:
    """Find what the decoder takes of the encoder's output, if not all of it.

    That is the first half of the output, or the output of the first of two equal layers outside
    encoder and decoder. The comparison with the module's `forward` confirms either.
    """
    if _try_decode(found, found.unpack(returned), labels):
        return found
    if isinstance(returned, Tensor) and returned.dim() > 1 and returned.shape[1] % 2 == 0:
        halves = replace(found, halves=True)
        if _try_decode(halves, halves.unpack(returned), labels):
            return halves
    heads = _equal_layers(found.whole)
    if heads is not None and not found.encode.method:
        trunk = found.encode.module
        found.encode.module = HeadsOutside(trunk, *heads)
        try:
            if _try_decode(found, found.unpack(found.call_encode(images, labels)), labels):
                return found
        except Exception:  # noqa: BLE001 - reported where decoding is checked
            pass
        found.encode.module = trunk
    return found


def _equal_layers(module: nn.Module | None) -> tuple[nn.Module, nn.Module] | None:
    """Return the two linear layers beside encoder and decoder, if they have the same shape."""
    if module is None or type(module).forward is nn.Module.forward:
        return None  # nothing would confirm their order
    layers = [child for child in module.children() if isinstance(child, nn.Linear)]
    same = len(layers) == 2 and layers[0].weight.shape == layers[1].weight.shape
    return (layers[0], layers[1]) if same else None


def _try_decode(found: CallingConvention, latents: Latents, labels: Tensor | None) -> bool:
    """Return whether the decoder takes the latents, with labels as indices or one-hot rows."""
    z = latents if isinstance(latents, Tensor) else latents[0]
    label = torch.zeros(len(z), dtype=torch.int64) if labels is None else labels
    for one_hot in (found.options.one_hot, True):
        found.decode.one_hot = one_hot
        try:
            found.decode(z, None if found.decode.label is None else label)
        except Exception:  # noqa: BLE001 - reported where decoding is checked
            continue
        return True
    found.decode.one_hot = found.options.one_hot
    return False


def _choose(
    found: CallingConvention, returned: Any, images: Tensor, labels: Tensor | None
) -> tuple[int, int] | None:
    """Return which two tensors in a tuple of three or more are mu and log_var, in this order.

    A sample of the posterior is recognized because it differs from call to call, or equals mu if
    there is no noise.

    Raises:
        UsageError: the number of tensors that could be mu and log_var is not two.
    """
    if not isinstance(returned, (tuple, list)) or hasattr(returned, "_fields"):
        return None
    tensors = {i: part for i, part in enumerate(returned) if isinstance(part, Tensor)}
    if len(tensors) < 3:
        return None
    again = found.call_encode(images, labels)
    kept: dict[int, Tensor] = {}
    for i, part in tensors.items():
        same_shape = part.shape == tensors[min(tensors)].shape
        fixed = same_shape and torch.equal(part, again[i])
        if fixed and not any(torch.equal(part, other) for other in kept.values()):
            kept[i] = part
    if len(kept) != 2:
        types = ", ".join(type(part).__name__ for part in returned)
        raise UsageError(
            f"{found.encode.name}: returned ({types}), and {len(kept)} of its tensors could be mu "
            "and log_var. Wrap the module so that encode returns only these two."
        )
    first, second = kept
    return first, second


def _add_null_rows(found: CallingConvention) -> bool:
    """Add the mean as row K to embeddings of K rows; return whether any label embedding exists."""
    k = len(found.options.classes)
    tables = [
        child
        for call in (found.encode, found.decode)
        for child in call.modules()
        if isinstance(child, nn.Embedding) and child.num_embeddings in (k, k + 1) and k
    ]
    for table in tables:
        if table.num_embeddings == k and found.options.null_label is None:
            rows = torch.cat([table.weight, table.weight.mean(0, keepdim=True)])
            table.weight = nn.Parameter(rows, requires_grad=False)
            table.num_embeddings = k + 1
    return bool(tables)


def to_module_range(image: Tensor, options: CustomModuleOptions) -> Tensor:
    """Convert pixels in [0, 1] to the range that the encoder expects."""
    return image * 2 - 1 if options.signed or options.image_range == "signed" else image


def from_module_range(image: Tensor, options: CustomModuleOptions) -> Tensor:
    """Convert what the decoder returned to pixels in [0, 1]."""
    activation = options.activation
    if activation == "none" and options.image_range == "signed":
        activation = "tanh"
    return _ACTIVATIONS[activation](image)
