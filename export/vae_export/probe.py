"""Looking at a stranger's modules: where they encode and decode, and how they take labels."""

from __future__ import annotations

import copy
import inspect
import re
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from vae_runtime.errors import UsageError

from .calling_convention import ForeignEncoder, Form, Method, unpack_latents

Modules = nn.Module | tuple[nn.Module, nn.Module]

_LABEL = re.compile(r"^(labels?|y|cls|class(es)?(_(labels?|ids?|idx))?|c|cond(ition)?)$")


class Wishes(Protocol):
    """What the caller said of the modules; see `vae_export.custom_module.Foreign`."""

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def one_hot(self) -> bool: ...  # noqa: D102
    @property
    def null_label(self) -> int | None: ...  # noqa: D102
    @property
    def spread(self) -> str: ...  # noqa: D102
    @property
    def activation(self) -> str: ...  # noqa: D102
    @property
    def signed(self) -> bool: ...  # noqa: D102


def find_form(module: Modules, facts: Wishes) -> Form:
    """Copy the modules, find out how they take labels.

    Raises:
        UsageError: no encoder or decoder in them, or what means "no label" is unknown.
    """
    encode, decode = _parts(copy.deepcopy(module))
    for part in (encode, decode):
        part.to("cpu", torch.float32).eval()
    form = Form(
        encode,
        decode,
        len(facts.classes),
        facts.one_hot,
        0,
        bool(facts.classes) and _takes_label(encode),
        facts.spread,
        facts.activation,
        facts.signed,
    )
    if not facts.classes or facts.one_hot:
        return form
    return replace(form, null_label=_null_label(form, facts))


def _parts(module: Modules) -> tuple[nn.Module, nn.Module]:
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
                f"{type(module).__name__}: has neither a method {method} nor a module {attribute}. "
                "Add one, or pass the pair (encoder, decoder)."
            )
    return found[0], found[1]


def _takes_label(encode: nn.Module) -> bool:
    """Whether the signature's second argument is called as labels are."""
    function = getattr(encode.module, encode.name) if isinstance(encode, Method) else encode.forward
    names = [p.name for p in inspect.signature(function).parameters.values()]
    return len(names) > 1 and bool(_LABEL.match(names[1]))


def _null_label(form: Form, facts: Wishes) -> int:
    """The index that stands for "no label"."""
    k = form.classes
    if facts.null_label is not None:
        return facts.null_label
    tables = {
        id(m): m
        for part in (form.encode, form.decode)
        for m in part.modules()
        if isinstance(m, nn.Embedding)
    }
    if any(m.num_embeddings == k + 1 for m in tables.values()):
        return k
    small = [m for m in tables.values() if m.num_embeddings == k]
    if not small:
        raise UsageError(
            f"the module has no embedding of {k} or {k + 1} rows, so what it takes for no label is "
            "unknown. Say null_label (--null-label), or one_hot (--one-hot)."
        )
    for table in small:
        rows = torch.cat([table.weight, table.weight.mean(0, keepdim=True)])
        table.weight = nn.Parameter(rows)
        table.num_embeddings = k + 1
    return k


def latent_shape(form: Form, image: Tensor) -> tuple[int, ...]:
    """The shape of one code, (D,) or for example (C, h, w)."""
    wanted = ForeignEncoder(form)
    given = [image * 2 - 1 if form.signed else image]
    if wanted.labels is not None:
        given.append(wanted.labels(torch.zeros(len(image), dtype=torch.int64)))
    found = unpack_latents(form.encode(*given), form.spread)
    return tuple((found if isinstance(found, Tensor) else found[0]).shape[1:])
