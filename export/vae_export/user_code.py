"""Support for users' own modules: copy them in any state, and name the faulty line in errors."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from vae_runtime.errors import one_line

M = TypeVar("M")

_NOT_THEIRS = tuple(str(folder) for folder in (Path(torch.__file__).parent, Path(__file__).parent))


def copy_module(module: M) -> M:
    """Copy a module, or a pair of modules, including any non-leaf tensors.

    torch cannot copy tensors that are results of a differentiable computation, such as those cached
    by a module in a training step, or the weight under the older `weight_norm`. These are copied as
    plain values.
    """
    memo: dict[int, Any] = {}
    parts: Any = module if isinstance(module, tuple) else (module,)
    for part in parts:
        for child in part.modules():
            for tensor in _tensors(vars(child)):
                if not tensor.is_leaf:
                    memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def user_line(error: BaseException) -> str:
    """Return the error's message, and the innermost line of the user's own code that led to it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    message = one_line(lines[0] if lines else type(error).__name__).rstrip(".")
    place = innermost(traceback.extract_tb(error.__traceback__))
    return f"{message} (at {place})" if place else message


def innermost(stack: list[traceback.FrameSummary]) -> str | None:
    """Return the innermost line of the user's own code: `model.py:12 in encode: mu = …`."""
    own = [frame for frame in stack if not frame.filename.startswith((*_NOT_THEIRS, "<"))]
    if not own:
        return None
    frame = own[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
