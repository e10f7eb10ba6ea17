"""The signatures of the operators that a graph may use, and the ranges of their attributes.

The signatures are data, `operators.json`, which `scripts/operators` generates from ONNX's schemas.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

# The smallest and largest integer of an attribute. For a group, block size or count of 0,
# onnxruntime would divide by zero and crash the process.
BOUNDS: dict[str, tuple[int, int]] = {
    "group": (1, 1 << 16),
    "num_groups": (1, 1 << 16),
    "num_outputs": (1, 1 << 12),
    "blocksize": (1, 256),
    "strides": (1, 512),
    "dilations": (1, 512),
    "kernel_shape": (1, 512),
    "pads": (0, 512),
    "output_padding": (0, 512),
    "output_shape": (1, 1 << 14),
    "size": (1, 1 << 12),
    "perm": (0, 15),
    "axis": (-16, 15),
    "axes": (-16, 15),
    "start": (-16, 16),
    "end": (-16, 16),
    "batch_dims": (0, 15),
    "block_size": (0, 1 << 24),
    "p": (1, 2),
    "training_mode": (0, 0),
}
_FLAGS = """
    align_corners allowzero antialias ceil_mode count_include_pad detect_negative detect_positive
    exclude_outside exclusive fmod keepdims largest noop_with_empty_axes reverse saturate
    select_last_index sorted storage_order transA transB upper
"""
# onnxruntime takes any other number for true in some of them, for false in others.
BOUNDS |= dict.fromkeys(_FLAGS.split(), (0, 1))
OTHER = (-(1 << 31), 1 << 31)  # any other attribute

# Element types and their sizes in bytes: float32, integers, bool, float16, float64, bfloat16.
ITEM_SIZES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
TYPE_NAMES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip
FLOAT, UINT8 = 1, 2
INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})

MAX_ELEMENTS = 1 << 28  # per tensor: 1 GiB of float32
MAX_BYTES = 1 << 32  # of all tensors that are needed at the same time


@dataclass(frozen=True)
class Signature:
    """What one version of an operator accepts.

    Attributes:
        inputs, outputs: types in order: a type variable or the number of an element type, followed
            by `?` if it is optional and by `*` if the last one may be repeated.
        min_inputs: the smallest number of inputs.
        types: the element types that each type variable allows.
        attributes: the type of each attribute: `int`, `ints`, `float`, `tensor` and so on.
        required: the attributes that must be given.
        words: the values that a text attribute may have; empty if it may have any.
    """

    since: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    min_inputs: int
    types: dict[str, frozenset[int]]
    attributes: dict[str, str]
    required: frozenset[str]
    words: dict[str, tuple[str, ...]]


@functools.cache
def _table() -> tuple[tuple[int, int], dict[str, list[dict[str, Any]]]]:
    data = json.loads(files("vae_runtime.graph_checks").joinpath("operators.json").read_bytes())
    return tuple(data["opsets"]), data["operators"]


def opsets() -> tuple[int, int]:
    """Return the oldest and the newest opset whose graphs are accepted."""
    return _table()[0]


def names() -> frozenset[str]:
    """Return the operators that are allowed in any opset."""
    return frozenset(_table()[1])


@functools.cache
def signature(op: str, opset: int) -> Signature | None:
    """Return the signature of an operator in an opset; None if it is not allowed there."""
    found = None
    for version in _table()[1].get(op, ()):
        if version["since"] <= opset:
            found = version
    return None if found is None else _parse(found)


def _parse(version: dict[str, Any]) -> Signature:
    return Signature(
        version["since"],
        tuple(version["inputs"]),
        tuple(version["outputs"]),
        version["min_inputs"],
        {name: frozenset(kinds) for name, kinds in version["types"].items()},
        version["attributes"],
        frozenset(version["required"]),
        {name: tuple(words) for name, words in version["words"].items()},
    )
