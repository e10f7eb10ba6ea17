"""Damage to ONNX graphs: the mistakes that an exporter or a converter could make, one at a time.

A kind of damage is a function that takes a model and yields a damaged copy for each place where it
fits, with a description.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

Mutant = tuple[str, onnx.ModelProto]
Damage = Callable[[onnx.ModelProto], Iterator[Mutant]]


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _attribute(node: NodeProto, name: str) -> AttributeProto | None:
    return next((a for a in node.attribute if a.name == name), None)


def _weights(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def _with_weight(model: onnx.ModelProto, name: str, values: NDArray[Any]) -> onnx.ModelProto:
    copied = copy_of(model)
    for tensor in copied.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return copied


def _float_weights(model: onnx.ModelProto, smallest: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the first, the middle and the last float weight of at least `smallest` numbers."""
    found = [(n, w) for n, w in _weights(model).items()
             if w.dtype == np.float32 and w.size >= smallest]  # fmt: skip
    for place in sorted({0, len(found) // 2, len(found) - 1}):
        if found:
            yield found[place]


def _places(model: onnx.ModelProto, *operators: str) -> list[int]:
    """Return the index of the first and the last node of these types."""
    found = [i for i, node in enumerate(model.graph.node) if node.op_type in operators]
    return sorted({found[0], found[-1]}) if found else []


def _with_attribute(model: onnx.ModelProto, place: int, name: str, value: Any) -> onnx.ModelProto:
    copied = copy_of(model)
    node = copied.graph.node[place]
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
    return copied


def _insert(
    model: onnx.ModelProto, place: int, *nodes: NodeProto, **constants: Any
) -> onnx.ModelProto:
    """Insert nodes that read `<output>` of a node as `given` and make its output again."""
    copied = copy_of(model)
    output = copied.graph.node[place].output[0]
    copied.graph.node[place].output[0] = "given"
    made = []
    for node in nodes:
        node = NodeProto.FromString(node.SerializeToString())
        for i, name in enumerate(node.output):
            node.output[i] = output if name == "made" else name
        made.append(node)
    rest = list(copied.graph.node)
    del copied.graph.node[:]
    copied.graph.node.extend([*rest[: place + 1], *made, *rest[place + 1 :]])
    for name, value in constants.items():
        dtype = np.int64 if name == "axes" else np.float32
        copied.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
    return copied


def epsilon(factor: float) -> Damage:
    """Multiply the epsilon of normalisation, an attribute or a constant added before a root."""

    def damage(model: onnx.ModelProto) -> Iterator[Mutant]:
        norms = ("BatchNormalization", "InstanceNormalization", "LayerNormalization")
        for place in _places(model, *norms):
            old = _attribute(model.graph.node[place], "epsilon")
            value = 1e-5 if old is None else old.f
            yield f"node {place}", _with_attribute(model, place, "epsilon", value * factor)
        for name, values in _weights(model).items():
            if values.size == 1 and values.dtype == np.float32 and 0 < values.flat[0] < 1e-4:
                yield name, _with_weight(model, name, values * np.float32(factor))

    return damage


def no_bias(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Set a bias to zero."""
    weights = _weights(model)
    operators = ("Gemm", "Conv", "ConvTranspose", "BatchNormalization", "LayerNormalization")
    for place in _places(model, *operators):
        node = model.graph.node[place]
        if len(node.input) > 2 and node.input[2] in weights:
            name = node.input[2]
            yield name, _with_weight(model, name, np.zeros_like(weights[name]))


def resize(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Interpolate in another way."""
    for place in _places(model, "Resize"):
        mode = _attribute(model.graph.node[place], "mode")
        grid = _attribute(model.graph.node[place], "coordinate_transformation_mode")
        if mode is not None and mode.s != b"nearest":
            yield f"node {place}: nearest", _with_attribute(model, place, "mode", "nearest")
            other = "half_pixel" if grid is not None and grid.s == b"align_corners" else (
                "align_corners")  # fmt: skip
            changed = _with_attribute(model, place, "coordinate_transformation_mode", other)
            yield f"node {place}: {other}", changed
        if mode is not None and mode.s == b"cubic":
            yield f"node {place}: a", _with_attribute(model, place, "cubic_coeff_a", -0.5)


def axis(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Use another axis, or another order of axes."""
    for place in _places(model, "Softmax", "Concat"):
        old = _attribute(model.graph.node[place], "axis")
        value = -1 if old is None else old.i
        yield f"node {place}", _with_attribute(model, place, "axis", -2 if value != -2 else -1)
    for place in _places(model, "Transpose"):
        old = _attribute(model.graph.node[place], "perm")
        if old is not None:
            perm = [*old.ints]
            perm[-1], perm[-2] = perm[-2], perm[-1]
            yield f"node {place}", _with_attribute(model, place, "perm", perm)


def one_weight(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Change the largest number of a weight by a thousandth."""
    for name, values in _float_weights(model, 8):
        changed = values.copy()
        changed.flat[np.abs(values).argmax()] *= np.float32(1.001)
        yield name, _with_weight(model, name, changed)


def half(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Round a weight to float16."""
    for name, values in _float_weights(model, 2):
        yield name, _with_weight(model, name, values.astype(np.float16).astype(np.float32))


def swapped(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Swap the halves of a matrix's rows, as if the heads of attention were in another order."""
    for name, values in _float_weights(model, 64):
        if values.ndim >= 2 and values.shape[0] % 2 == 0:
            yield name, _with_weight(model, name, np.roll(values, len(values) // 2, 0))


def transposed(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Transpose a square matrix or kernel."""
    for name, values in _float_weights(model, 9):
        if values.ndim >= 2 and values.shape[-1] == values.shape[-2] > 1:
            yield name, _with_weight(model, name, values.swapaxes(-1, -2))


def tanh_gelu(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Approximate GELU by a tanh."""
    make = helper.make_node
    for place in _places(model, "Erf"):
        copied = copy_of(model)
        node = copied.graph.node[place]
        given, made = node.input[0], node.output[0]
        # erf(u) ≈ tanh(√(2/π) · (x + 0.044715 x³)) for x = √2 u
        nodes = [
            make("Mul", [given, "c_root"], ["g_x"]),
            make("Mul", ["g_x", "g_x"], ["g_2"]),
            make("Mul", ["g_2", "g_x"], ["g_3"]),
            make("Mul", ["g_3", "c_cubic"], ["g_c"]),
            make("Add", ["g_x", "g_c"], ["g_s"]),
            make("Mul", ["g_s", "c_scale"], ["g_t"]),
            make("Tanh", ["g_t"], [made]),
        ]
        rest = list(copied.graph.node)
        del copied.graph.node[:]
        copied.graph.node.extend([*rest[:place], *nodes, *rest[place + 1 :]])
        constants = {"c_root": 2**0.5, "c_cubic": 0.044715, "c_scale": (2 / np.pi) ** 0.5}
        for name, value in constants.items():
            array = np.array(value, np.float32)
            copied.graph.initializer.append(numpy_helper.from_array(array, name))
        yield f"node {place}", copied


def shifted(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Shift the padding of a convolution or pool by one pixel."""
    for place in _places(model, "Conv", "ConvTranspose", "AveragePool", "MaxPool"):
        old = _attribute(model.graph.node[place], "pads")
        if old is not None and len(old.ints) == 4 and old.ints[2] > 0:
            pads = [old.ints[0] + 1, old.ints[1], old.ints[2] - 1, old.ints[3]]
            yield f"node {place}", _with_attribute(model, place, "pads", pads)


def count_padding(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Count padding in the mean of a pool, or stop counting it."""
    for place in _places(model, "AveragePool"):
        old = _attribute(model.graph.node[place], "count_include_pad")
        value = 0 if old is not None and old.i else 1
        yield f"node {place}", _with_attribute(model, place, "count_include_pad", value)


def activation(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Change an activation: its slope, or its kind."""
    for place in _places(model, "LeakyRelu", "Elu"):
        old = _attribute(model.graph.node[place], "alpha")
        value = 0.01 if old is None else old.f
        yield f"node {place}", _with_attribute(model, place, "alpha", value * 1.001)
    for place in _places(model, "Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish"):
        copied = copy_of(model)
        node = copied.graph.node[place]
        node.op_type = {"Relu": "LeakyRelu", "Sigmoid": "HardSigmoid"}.get(node.op_type, "Softsign")
        yield f"node {place}: {node.op_type}", copied


def scaled(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Multiply the output of a layer by 1.00001."""
    node = helper.make_node("Mul", ["given", "scale"], ["made"])
    layers = _places(model, "Gemm", "Conv", "ConvTranspose", "MatMul")
    for place in sorted({*layers, len(model.graph.node) - 1}):
        yield f"node {place}", _insert(model, place, node, scale=1.00001)


def coupled(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Move each row a little towards the mean of its batch."""
    make = helper.make_node
    nodes = [
        make("ReduceMean", ["given", "axes"], ["g_mean"], keepdims=1),
        make("Sub", ["g_mean", "given"], ["g_apart"]),
        make("Mul", ["g_apart", "share"], ["g_share"]),
        make("Add", ["given", "g_share"], ["made"]),
    ]
    layers = _places(model, "Gemm", "Conv", "ConvTranspose", "MatMul")
    for place in sorted({*layers, len(model.graph.node) - 1}):
        yield f"node {place}", _insert(model, place, *nodes, axes=[0], share=1e-4)


def pixel_shuffle(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Take the channels of a pixel shuffle in the other order."""
    for place in _places(model, "DepthToSpace"):
        old = _attribute(model.graph.node[place], "mode")
        mode = "CRD" if old is None or old.s == b"DCR" else "DCR"
        yield f"node {place}", _with_attribute(model, place, "mode", mode)


def constant(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Change a scalar constant, such as the scale of attention, by a thousandth."""
    scalars = [
        (name, values)
        for name, values in _weights(model).items()
        if values.size == 1 and values.dtype == np.float32 and abs(values.flat[0]) > 1e-4
    ]
    for name, values in scalars[:2]:
        yield name, _with_weight(model, name, values * np.float32(1.001))


def no_residual(model: onnx.ModelProto) -> Iterator[Mutant]:
    """Leave out a residual connection."""
    weights = _weights(model)
    places = [
        i
        for i, node in enumerate(model.graph.node)
        if node.op_type == "Add" and not any(name in weights for name in node.input)
    ]
    for place in sorted({places[0], places[-1]}) if places else []:
        copied = copy_of(model)
        node = copied.graph.node[place]
        node.op_type = "Identity"
        del node.input[0]
        yield f"node {place}", copied


KINDS: dict[str, Damage] = {
    "epsilon × 10": epsilon(10),
    "epsilon ÷ 10": epsilon(0.1),
    "bias dropped": no_bias,
    "other interpolation": resize,
    "other axis": axis,
    "one weight × 1.001": one_weight,
    "weight rounded to float16": half,
    "halves of a weight swapped": swapped,
    "weight transposed": transposed,
    "tanh for GELU": tanh_gelu,
    "padding shifted": shifted,
    "padding counted": count_padding,
    "other activation": activation,
    "layer × 1.00001": scaled,
    "rows coupled": coupled,
    "other pixel shuffle": pixel_shuffle,
    "constant × 1.001": constant,
    "residual dropped": no_residual,
}
