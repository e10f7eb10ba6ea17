"""A graph pass: the matrix products of an MLP decoder in 8 bits, everything else in float32.

Weights become int8 with one scale for each column (symmetric, as Jacob et al. 2018, arXiv
1712.05877, do); activations become uint8 with a scale found at each run. The pattern is the one
that onnxruntime fuses into a single kernel, written in plain `ai.onnx` operators.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vae_runtime.errors import UsageError
from vae_runtime.inference.session import Session

from ..parity import Arrays
from .rounding import round_columns

# Measured with onnxruntime's own dynamic quantisation of a decoder of this project, batch 64.
CONV_SLOWDOWN = 3.3
_SMALLEST = 4096  # weights; a product below this costs less than quantising its input


def to_int8(model: onnx.ModelProto, drawn: Arrays) -> onnx.ModelProto:
    """A copy of `model` whose large Gemm nodes multiply in 8 bits.

    The layer that reads the code stays in float32: it is small, and latents far out (±6 sigma in one
    dimension) would leave few levels for all other dimensions.

    Args:
        model: a decoder.
        drawn: inputs as users have them, which the weights are rounded for.

    Raises:
        UsageError: the graph has convolutions, or nothing that is worth quantising.
    """
    convolutions = sum(node.op_type in ("Conv", "ConvTranspose") for node in model.graph.node)
    if convolutions:
        raise UsageError(
            f"int8: {model.graph.name} has {convolutions} convolutions, which run {CONV_SLOWDOWN}"
            " times slower in dynamic int8 than in float32 (measured). Use --variant fp16 or uint8."
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {t.name: t for t in graph.initializer}
    chosen = [node for node in graph.node if node.op_type == "Gemm"][1:]
    chosen = [node for node in chosen if _fits(node, weights.get(node.input[1]))]
    if not chosen:
        raise UsageError(
            f"int8: {model.graph.name} has no matrix product of {_SMALLEST:,} weights or more "
            "behind its first layer. Use --variant fp16 or uint8."
        )
    inputs = _layer_inputs(model, chosen, drawn)
    replaced = {}
    for node in chosen:
        weight = numpy_helper.to_array(weights[node.input[1]])
        nodes, tensors = _integer_gemm(node, weight, inputs[node.input[0]])
        replaced[node.output[0]] = nodes
        graph.initializer.extend(tensors)
    whole = [part for node in graph.node for part in replaced.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(whole)
    drop_unused_weights(graph)
    return result


def drop_unused_weights(graph: onnx.GraphProto) -> None:
    """Remove the constants that no node reads any more."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _fits(node: NodeProto, weight: TensorProto | None) -> bool:
    """Whether a Gemm is a plain Linear of some size with a constant weight."""
    if weight is None:
        return False
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = all(given.get(name, 1) == 1 for name in ("alpha", "beta")) and not given.get("transA")
    return plain and int(np.prod(weight.dims)) >= _SMALLEST


def _layer_inputs(
    model: onnx.ModelProto, nodes: list[NodeProto], drawn: Arrays
) -> dict[str, NDArray[np.float32]]:
    """What each of `nodes` multiplies, f32[M, K], when the graph runs on `drawn`."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = sorted({node.input[0] for node in nodes})
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    with Session(probe.SerializeToString(), device="cpu") as session:
        return dict(zip(names, session.run(names, **drawn), strict=True))


def _integer_gemm(
    node: NodeProto, weight: NDArray[np.float32], inputs: NDArray[np.float32]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes and constants that take the place of one Gemm."""
    if any(a.name == "transB" and a.i for a in node.attribute):
        weight = weight.T
    values, scale = round_columns(weight, inputs)
    name = node.output[0]
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(values), f"{name}_weight"),
        numpy_helper.from_array(scale, f"{name}_scale"),
        numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}_zero"),
    ]
    weight_name, scale_name, zero_name = (t.name for t in tensors)
    x, x_scale, x_zero, product, whole, both, scaled = (
        f"{name}_{part}" for part in ("x", "xs", "xz", "product", "whole", "both", "scaled")
    )
    biased = len(node.input) > 2 and bool(node.input[2])
    make = helper.make_node
    nodes = [
        make("DynamicQuantizeLinear", [node.input[0]], [x, x_scale, x_zero]),
        make("MatMulInteger", [x, weight_name, x_zero, zero_name], [product]),
        make("Cast", [product], [whole], to=TensorProto.FLOAT),
        make("Mul", [x_scale, scale_name], [both]),
        make("Mul", [whole, both], [scaled if biased else name]),
    ]
    if biased:
        nodes.append(make("Add", [scaled, node.input[2]], [name]))
    for index, part in enumerate(nodes):
        part.name = f"{name}_{index}"
    return nodes, tensors
