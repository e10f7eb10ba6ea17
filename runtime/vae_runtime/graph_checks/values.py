"""Compute the small tensors that output sizes may depend on, as onnxruntime would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .call import Array, Call, Shape, elements
from .nodes import DTYPES

_MAX_ELEMENTS = 1024
_LARGEST = 1 << 31

Values = list[NDArray[Any]]


def compute(call: Call, kind: int, shape: Shape) -> NDArray[Any] | None:
    """Return the value of a node's only output; None if it is not known.

    A value is known if it follows from constants and shapes, is small, and comes from an operator
    of this list. Numbers so large that they could only be a size that is refused are not known.
    """
    operator, dtype = _OPERATORS.get(call.node.op), DTYPES.get(kind)
    values = [None if one is None else one.value for one in call.inputs]
    if operator is None or dtype is None or elements(shape) > _MAX_ELEMENTS:
        return None
    if call.node.op not in ("Shape", "Size") and not all(map(_is_small, call.inputs)):
        return None
    with np.errstate(all="ignore"):
        found = np.asarray(operator(call, [v for v in values if v is not None]))
        if not (np.abs(found) < _LARGEST).all():
            return None
        return found.astype(dtype).reshape(shape)


def _is_small(one: Array | None) -> bool:
    return one is not None and one.value is not None and one.value.size <= _MAX_ELEMENTS


def _truncate(call: Call, v: Values) -> NDArray[Any]:
    """Divide as C does: integers are truncated towards zero."""
    if v[0].dtype.kind == "f":
        return np.asarray(v[0] / v[1])
    rest = (v[0] % v[1] != 0) & ((v[0] < 0) != (v[1] < 0))
    return np.asarray(v[0] // v[1] + rest)


def _shape_of(call: Call, _: Values) -> NDArray[Any]:
    end = call.attribute("end", len(call.shape()))
    return np.array(call.shape()[call.attribute("start") : end], np.int64)


def _slice(call: Call, v: Values) -> NDArray[Any]:
    starts, ends = call.ints(1), call.ints(2)
    axes = call.axes(call.ints(3)) if call.has(3) else list(range(len(starts)))
    steps = call.ints(4) if call.has(4) else [1] * len(starts)
    parts = [slice(None)] * v[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        before = step < 0 and end < -v[0].shape[axis]
        parts[axis] = slice(start, None if before else end, step)
    return v[0][tuple(parts)]


def _reduce(function: Callable[..., Any]) -> Callable[[Call, Values], NDArray[Any]]:
    def reduce(call: Call, v: Values) -> NDArray[Any]:
        axes = call.axes(call.ints(1)) if call.has(1) else list(call.integers("axes") or ())
        if not axes and call.attribute("noop_with_empty_axes"):
            return v[0]
        return np.asarray(function(v[0], axis=tuple(axes) or None))

    return reduce


def _range(_: Call, v: Values) -> NDArray[Any]:
    return np.arange(v[0].item(), v[1].item(), v[2].item())


def _constant_of_shape(call: Call, v: Values) -> NDArray[Any]:
    tensor = call.tensor("value")
    value = 0 if tensor is None or tensor.value is None else tensor.value.reshape(-1)[0]
    return np.full(call.ints(0), value)


_OPERATORS: dict[str, Callable[[Call, Values], Any]] = {
    "Constant": lambda call, _: getattr(call.tensor("value"), "value", None),
    "Shape": _shape_of,
    "Size": lambda call, _: np.prod(call.shape(), dtype=np.int64),
    "Identity": lambda _, v: v[0],
    "Cast": lambda _, v: v[0],
    "Reshape": lambda _, v: v[0],
    "Squeeze": lambda _, v: v[0],
    "Unsqueeze": lambda _, v: v[0],
    "Flatten": lambda _, v: v[0],
    "Concat": lambda call, v: np.concatenate(v, call.attribute("axis")),
    "Gather": lambda call, v: np.take(v[0], v[1], call.attribute("axis")),
    "Slice": _slice,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Expand": lambda call, v: np.broadcast_to(v[0], np.broadcast_shapes(v[0].shape, call.ints(1))),
    "Add": lambda _, v: v[0] + v[1],
    "Sub": lambda _, v: v[0] - v[1],
    "Mul": lambda _, v: v[0] * v[1],
    "Div": _truncate,
    "Mod": lambda call, v: (np.fmod if call.attribute("fmod") else np.mod)(v[0], v[1]),
    "Neg": lambda _, v: -v[0],
    "Abs": lambda _, v: np.abs(v[0]),
    "Max": lambda _, v: np.max(np.broadcast_arrays(*v), 0),
    "Min": lambda _, v: np.min(np.broadcast_arrays(*v), 0),
    "Floor": lambda _, v: np.floor(v[0]),
    "Ceil": lambda _, v: np.ceil(v[0]),
    "Sqrt": lambda _, v: np.sqrt(v[0]),
    "Equal": lambda _, v: v[0] == v[1],
    "Less": lambda _, v: v[0] < v[1],
    "Greater": lambda _, v: v[0] > v[1],
    "Not": lambda _, v: ~v[0],
    "Where": lambda _, v: np.where(v[0], v[1], v[2]),
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
}
