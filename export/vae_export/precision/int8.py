"""Quantise the matrix products of an MLP decoder to 8 bits; everything else stays in float32.

Weights become int8 with one scale per column (symmetric, as in Jacob et al. 2018, arXiv
1712.05877). Activations become uint8, with a scale that is computed on every run. The nodes are
plain `ai.onnx` operators, in a pattern that onnxruntime fuses into a single kernel.

Rounding minimises the error of a layer's outputs, not that of its weights: rows are rounded one
after another, and the rows not yet rounded compensate for the error (OBQ and GPTQ: Frantar et al.
2022, arXiv 2208.11580 and 2210.17323). This requires typical inputs but no training.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vae_runtime.errors import UsageError
from vae_runtime.inference.session import Session

from ..reference import Arrays

# Measured with onnxruntime's own dynamic quantisation of a convolutional decoder at batch 64.
CONV_SLOWDOWN = 3.3
# Weights use seven of the eight bits, which costs 1 to 2 dB. A CPU without VNNI adds two products
# in 16 bits, which would saturate with eight; since 2 * 255 * 63 < 2**15, every CPU computes the
# same integers.
LEVELS = 63
_MIN_WEIGHTS = 4096  # a smaller product takes less time than quantising its input
_DAMPING = 0.01  # relative to the mean diagonal; bounds the inverse of a rank-deficient matrix


def to_int8(model: onnx.ModelProto, samples: Arrays) -> onnx.ModelProto:
    """Quantise the large Gemm nodes of a copy of `model`.

    The first layer stays in float32: it is small, and latents far from the mean (±6 sigma in one
    dimension) would leave few levels for the other dimensions.

    Args:
        model: a decoder.
        samples: typical inputs, for which rounding minimises the error.

    Raises:
        UsageError: the graph has convolutions, or no Gemm large enough.
    """
    convolutions = sum(node.op_type in ("Conv", "ConvTranspose") for node in model.graph.node)
    if convolutions:
        raise UsageError(
            f"int8: {model.graph.name} has {convolutions} convolutions, which take {CONV_SLOWDOWN} "
            "times as long in dynamic int8 as in float32 (measured). Use --variant fp16 or uint8."
        )
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    weights = {t.name: t for t in graph.initializer}
    chosen = [node for node in graph.node if node.op_type == "Gemm"][1:]
    chosen = [node for node in chosen if _is_large_linear(node, weights.get(node.input[1]))]
    if not chosen:
        raise UsageError(
            f"int8: {model.graph.name} has no matrix product of {_MIN_WEIGHTS:,} weights or more "
            "after its first layer. Use --variant fp16 or uint8."
        )
    inputs = _layer_inputs(model, chosen, samples)
    replaced = {}
    for node in chosen:
        weight = numpy_helper.to_array(weights[node.input[1]])
        nodes, tensors = _integer_gemm(node, weight, inputs[node.input[0]])
        replaced[node.output[0]] = nodes
        graph.initializer.extend(tensors)
    nodes = [part for node in graph.node for part in replaced.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return result


def _is_large_linear(node: NodeProto, weight: TensorProto | None) -> bool:
    """Return whether a Gemm is a plain linear layer with a large constant weight."""
    if weight is None:
        return False
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = all(attributes.get(name, 1) == 1 for name in ("alpha", "beta"))
    plain = plain and not attributes.get("transA")
    return plain and int(np.prod(weight.dims)) >= _MIN_WEIGHTS


def _layer_inputs(
    model: onnx.ModelProto, nodes: list[NodeProto], samples: Arrays
) -> dict[str, NDArray[np.float32]]:
    """Run the graph on `samples`; return the inputs f32[M, K] of `nodes`, by name."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = sorted({node.input[0] for node in nodes})
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    with Session(probe.SerializeToString(), device="cpu") as session:
        return dict(zip(names, session.run(names, **samples), strict=True))


def _integer_gemm(
    node: NodeProto, weight: NDArray[np.float32], inputs: NDArray[np.float32]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Make the nodes and constants that replace one Gemm."""
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


def round_columns(
    weight: NDArray[np.float32], inputs: NDArray[np.float32]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise the weight of one layer.

    Args:
        weight: f32[K, N].
        inputs: typical inputs of the layer, f32[M, K].

    Returns:
        int8[K, N], and the scale of each column, f32[N].
    """
    largest = np.abs(weight).max(0)
    scale = (np.where(largest > 0, largest, 1) / LEVELS).astype(np.float32)
    order, factor = _rounding_order(inputs.astype(np.float64))
    remaining = weight.astype(np.float64)[order]
    rounded = np.empty(remaining.shape, np.int8)
    for k in range(len(remaining)):
        rounded[k] = np.clip(np.rint(remaining[k] / scale), -LEVELS, LEVELS)
        error = (remaining[k] - rounded[k] * scale.astype(np.float64)) / factor[k, k]
        remaining[k + 1 :] -= factor[k, k + 1 :, None] * error
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return rounded[inverse], scale


def _rounding_order(inputs: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Sort rows by input strength, descending; return the order and H⁻¹'s upper Cholesky factor."""
    hessian = inputs.T @ inputs / len(inputs)
    diagonal = np.diag(hessian)
    hessian = hessian + (_DAMPING * diagonal.mean() + 1e-12) * np.eye(len(hessian))
    order = np.argsort(-diagonal, kind="stable")
    inverse = np.linalg.inv(hessian[np.ix_(order, order)])
    factor = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float64)
    return order, factor
