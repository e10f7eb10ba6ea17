"""The calling convention of a custom module: how it encodes and decodes, and its arguments.

The signature shows how labels are passed. Whether labels are indices or one-hot rows, and whether
images are flattened, is determined by trying each form.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vae_runtime.errors import UsageError

from .options import CustomModuleOptions
from .unpacking import unpack_latents
from .user_code import copy_module, user_line

Modules = nn.Module | tuple[nn.Module, nn.Module]

_LABEL = re.compile(r"^(labels?|y|cls|class(es)?(_(labels?|ids?|idx))?|c|cond(ition)?)$")
# Names of layers after a trunk called `encoder`, with optional affixes such as `fc_`, `linear_` and
# `to_`.
_MEAN_HEADS = re.compile(r"^(\w+_)?(mu|mean|z_mean)(_\w+)?$")
_LOG_VAR_HEADS = re.compile(r"^(\w+_)?(log_?var|log_?variance|var|z_log_var)(_\w+)?$")
_TRIED = 8  # number of images used to find the convention
# Attribute names under which wrappers store the wrapped module.
_WRAPPERS = ("module", "model", "net", "network", "vae", "autoencoder", "ae")


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda image: image,
    "sigmoid": torch.sigmoid,
    "tanh": lambda image: ((image + 1) / 2).clamp(0, 1),
    "clip": lambda image: image.clamp(0, 1),
}


class Call(nn.Module):
    """A method of a module, or the module itself, to call with a first argument and a label.

    Attributes:
        name: the name of the method, for error messages.
        label: the name of the parameter that takes the label; None if there is none.
        one_hot: whether labels are passed as one-hot rows.
        saw_one_hot: whether the module itself turned labels into one-hot rows.
        unknown: other parameters without a default.
    """

    def __init__(self, module: nn.Module, name: str, *, method: bool) -> None:
        super().__init__()
        self.module = module
        self.name = name
        self.method = method
        self.label: str | None = None
        self.first: str | None = None
        self.one_hot = False
        self.saw_one_hot = False
        self.unknown: list[str] = []
        self.classes = 0

    def inspect(self, *, labelled: bool) -> None:
        """Find the parameters for the first argument and, if `labelled`, for the label."""
        function = getattr(self.module, self.name) if self.method else self.module.forward
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = [p for p in inspect.signature(function).parameters.values()
                      if p.kind not in kinds]  # fmt: skip
        named = [p.name for p in parameters if _LABEL.match(p.name)]
        required = [p.name for p in parameters if p.default is p.empty]
        if labelled and named:
            self.label = named[0]
        elif labelled and len(required) > 1:
            self.label = required[1]
        rest = [p.name for p in parameters if p.name != self.label]
        self.first = rest[0] if rest and self.label is not None else None
        self.unknown = (
            [name for name in required if name not in (rest[0], self.label)] if rest else []
        )

    def forward(self, first: Tensor, label: Tensor | None = None) -> Any:
        """Call with f32[N, …] and any label that is taken, i64[N] in [0, K]; K means "no label"."""
        function = getattr(self.module, self.name) if self.method else self.module
        if self.label is None or self.first is None or label is None:
            return function(first)
        with _NullOneHot(self.classes) as mode:
            if self.one_hot:
                label = F.one_hot(label, self.classes).to(first.dtype)
            returned = function(**{self.first: first, self.label: label})
        self.saw_one_hot = mode.used
        return returned


class _NullOneHot(TorchFunctionMode):
    """Mode in which `one_hot` has a row for label K ("no label"): an equal mix of all classes.

    The linear layer that follows maps it to the mean over all classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.used = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        size = args[1] if len(args) > 1 else kwargs.get("num_classes", -1)
        if func in (F.one_hot, torch._C._nn.one_hot) and size in (-1, self.classes):
            self.used, k = True, self.classes
            rows = torch.cat([torch.eye(k), torch.full((1, k), 1 / k)])
            return rows[args[0] if args else kwargs["tensor"]]
        return func(*args, **kwargs)


class HeadsOutside(nn.Module):
    """An encoder trunk, and the two layers outside it that compute mu and log_var."""

    def __init__(self, trunk: nn.Module, mean: nn.Module, log_var: nn.Module) -> None:
        super().__init__()
        self.trunk, self.mean, self.log_var = trunk, mean, log_var

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode f32[N, C, H, W] to mu and log_var, each f32[N, D]."""
        hidden = self.trunk(image)
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
        flat: the module takes and returns pixels as f32[N, C·H·W].
    """

    encode: Call
    decode: Call
    options: CustomModuleOptions
    null_label: int
    whole: nn.Module | None = None
    chosen: tuple[int, int] | None = None
    flat: bool = False

    @property
    def labelled_encoder(self) -> bool:
        """Whether `encode` takes a label."""
        return self.encode.label is not None

    def call_encode(self, pixels: Tensor, label: Tensor | None) -> Any:
        """Call `encode` with f32[N, C, H, W] in the module's own range."""
        pixels = pixels.flatten(1) if self.flat else pixels
        return self.encode(pixels, label if self.labelled_encoder else None)


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
    mean = unpack_latents(returned, options.spread, found.chosen)
    _try_decode(found, mean if isinstance(mean, Tensor) else mean[0], labels)
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
        if all(_has(candidate, *names) for names in (("encode", "encoder"), ("decode", "decoder"))):
            return candidate
        pending += [children[name] for name in _WRAPPERS if name in children]
    raise UsageError(
        f"{type(module).__name__}: has neither methods encode and decode nor submodules encoder "
        "and decoder. Add them, or pass the pair (encoder, decoder)."
    )


def _has(module: nn.Module, method: str, attribute: str) -> bool:
    return callable(getattr(module, method, None)) or isinstance(
        getattr(module, attribute, None), nn.Module
    )


def _split(module: Modules) -> tuple[Call, Call]:
    """Return the encoder and the decoder, each as a `Call`."""
    if isinstance(module, tuple):
        return tuple(  # type: ignore[return-value]
            Call(part, name, method=False)
            for part, name in zip(module, ("encoder", "decoder"), strict=True)
        )
    if callable(getattr(module, "encode", None)):
        encode = Call(module, "encode", method=True)
    else:
        trunk = module.get_submodule("encoder")
        heads = [_only(module, pattern) for pattern in (_MEAN_HEADS, _LOG_VAR_HEADS)]
        if heads[0] is not None and heads[1] is not None:
            trunk = HeadsOutside(trunk, heads[0], heads[1])
        encode = Call(trunk, "encoder", method=False)
    if callable(getattr(module, "decode", None)):
        return encode, Call(module, "decode", method=True)
    return encode, Call(module.get_submodule("decoder"), "decoder", method=False)


def _only(module: nn.Module, pattern: re.Pattern[str]) -> nn.Module | None:
    """Return the only direct submodule whose name matches."""
    found = [child for name, child in module.named_children() if pattern.match(name)]
    return found[0] if len(found) == 1 else None


def _try_encode(
    found: CallingConvention, images: Tensor, labels: Tensor | None
) -> tuple[Any, CallingConvention]:
    """Try each form in which the module may take images and labels, the plainest first."""
    extra = found.encode.unknown
    if extra:
        raise UsageError(
            f"{found.encode.name}: also takes {', '.join(extra)}, which no graph of a bundle has. "
            "Wrap the module so that encode and decode pass fixed values, or pass classes if these "
            "are labels."
        )
    errors: list[Exception] = []
    forms = dict.fromkeys((found.options.one_hot, True)) if found.labelled_encoder else (False,)
    for flat in (False, True):
        for found.encode.one_hot in forms:
            attempt = replace(found, flat=flat)
            try:
                return attempt.call_encode(images, labels), attempt
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                errors.append(error)
    raise UsageError(
        f"{found.encode.name} failed on images of {tuple(images.shape[1:])}: "
        f"{user_line(errors[0])}. Was the module trained on such images?"
    )


def _try_decode(found: CallingConvention, z: Tensor, labels: Tensor | None) -> None:
    """Determine whether the decoder takes indices or one-hot rows."""
    if found.decode.label is None:
        return
    label = torch.zeros(len(z), dtype=torch.int64) if labels is None else labels
    for one_hot in (found.options.one_hot, True):
        found.decode.one_hot = one_hot
        try:
            found.decode(z, label)
        except Exception:  # noqa: BLE001 - reported where decoding is checked
            continue
        return
    found.decode.one_hot = found.options.one_hot


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
