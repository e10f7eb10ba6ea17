"""Load the weights of a custom module from common file formats."""

from __future__ import annotations

import argparse
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_runtime.dependencies import require
from vae_runtime.errors import InputError
from vae_runtime.files.reading import read_bytes

from .calling_convention import Modules

_MAX_DEPTH = 3  # maximum nesting of dictionaries around the weights
# Types of plain values that trainers save alongside tensors; none of them runs code.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    type(np.float64(0)).__reduce__(np.float64(0))[0],  # how NumPy pickles a scalar
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")),
]


def load_weights(
    module: Modules, path: Path, log: Callable[[str], None] = lambda line: None
) -> str:
    """Load weights from a state dict (for a pair, with prefixes `encoder.` and `decoder.`).

    The state dict may be nested in other dictionaries, its keys may have a prefix added by a
    wrapper (`module.`, `_orig_mod.`, `model.` …), and it may also contain the weights of other
    models.

    Args:
        module: the module, which is changed in place.
        path: a file saved by torch, or a `.safetensors` file.
        log: called with a line that names any ignored keys.

    Returns:
        The sha256 of the file.

    Raises:
        NotFound: there is no such file.
        InputError: the file contains no state dict, or none that fits the module.
        MissingExtra: the file is a `.safetensors` file, and safetensors is not installed.
    """
    raw = read_bytes(path)
    found = _read(raw, path)
    whole = (
        nn.ModuleDict({"encoder": module[0], "decoder": module[1]})
        if isinstance(module, tuple)
        else module
    )
    wanted = whole.state_dict()
    candidates = [_without_prefix(state, wanted) for state in _state_dicts(found)]
    if not candidates:
        raise InputError(f"{path}: holds no tensors by name. Save model.state_dict().")
    state = max(candidates, key=lambda state: len(state.keys() & wanted.keys()))
    _check_fit(state, wanted, path)
    extra = sorted(state.keys() - wanted.keys())
    if extra:
        log(f"{path}: {len(extra)} keys are not of this module and left out: {_some(extra)}")
    whole.load_state_dict({key: state[key] for key in wanted})
    return hashlib.sha256(raw).hexdigest()


def _read(raw: bytes, path: Path) -> Any:
    if path.suffix == ".safetensors":
        require("vae-export", "safetensors")
        from safetensors.torch import load

        try:
            return load(raw)
        except Exception as error:
            raise InputError(f"{path}: not a readable .safetensors file") from error
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, UnpicklingError) as error:
        raise InputError(
            f"{path}: holds objects other than tensors, which are not loaded. "
            "Save model.state_dict()."
        ) from error


def _state_dicts(value: Any, depth: int = 0) -> Iterator[dict[str, Tensor]]:
    """Yield each dictionary that maps names to tensors, omitting its other entries."""
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        return
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield tensors
    for inner in value.values():
        yield from _state_dicts(inner, depth + 1)


def _without_prefix(state: dict[str, Tensor], wanted: dict[str, Any]) -> dict[str, Tensor]:
    """Strip the prefix whose removal makes the most keys match those of the module."""
    by_last: dict[str, list[str]] = {}
    for key in wanted:
        by_last.setdefault(key.rpartition(".")[2], []).append(key)
    prefixes: Counter[str] = Counter()
    for key in state:
        for name in by_last.get(key.rpartition(".")[2], ()):
            if key == name or key.endswith(f".{name}"):
                prefixes[key[: len(key) - len(name)]] += 1
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _check_fit(state: dict[str, Tensor], wanted: dict[str, Any], path: Path) -> None:
    """Reject weights that do not fit the module, with up to three examples of each fault."""
    missing = sorted(wanted.keys() - state.keys())
    wrong = sorted(
        f"{key} {list(state[key].shape)} for {list(value.shape)}"
        for key, value in wanted.items()
        if key in state and isinstance(value, Tensor) and state[key].shape != value.shape
    )
    if not missing and not wrong:
        return
    unexpected = sorted(state.keys() - wanted.keys())
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
    text = "; ".join(
        f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys
    )
    raise InputError(f"{path}: does not fit the module: {text}")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
