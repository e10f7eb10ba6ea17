"""Build the sampler graph: standard normals in, images and latents out.

The prior becomes a few nodes in front of a decoder, so that any ONNX runtime can generate images
without reading metadata. `Prior.transform` is the same computation in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from vae_runtime.bundle.spec import ModelSpec
from vae_runtime.prior import BELOW_ONE, Prior

_PREFIX = "prior_"  # of all names, so that none is a name of the decoder's


def sampler_model(decoder: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """Put the prior in front of a decoder.

    Args:
        decoder: a decoder graph; for a conditional model, the one that takes a label.
        spec: the model, with its prior and the shape of its latents.

    Returns:
        A model with the inputs `noise` f32[N, D + 1] and, as the decoder, `label` i64[N], and the
        outputs `image` and `z` f32[N, *latent_shape].
    """
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    graph = model.graph
    labelled = any(value.name == "label" for value in graph.input)
    if spec.prior.kind == "class_gmm" and not labelled:
        raise ValueError("mixtures per class need a decoder that takes a label")
    builder = _Builder()
    flat = _latents(builder, spec.prior)
    # `z` is an output as well, so the decoder must not be able to overwrite it: SSA holds that.
    shape = builder.constant(np.array([-1, *spec.latent_shape], np.int64))
    builder.nodes.append(helper.make_node("Reshape", [flat, shape], ["z"], name=f"{_PREFIX}z"))
    nodes = [*builder.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(builder.initializers)
    (latents,) = [value for value in graph.input if value.name == "z"]
    noise = helper.make_tensor_value_info(
        "noise", TensorProto.FLOAT, ["batch", spec.latent_dim + 1]
    )
    rest = [value for value in graph.input if value.name != "z"]
    outputs = [*graph.output, latents]
    del graph.input[:], graph.output[:]
    graph.input.extend([noise, *rest])
    graph.output.extend(outputs)
    return model


@dataclass
class _Builder:
    """Nodes and initializers in the order in which they are added."""

    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def constant(self, values: NDArray[Any]) -> str:
        """Add an initializer; float64 becomes float32."""
        values = values.astype(np.float32) if values.dtype == np.float64 else values
        name = f"{_PREFIX}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def __call__(self, operator: str, *inputs: str | NDArray[Any], **attributes: Any) -> str:
        """Add a node; arrays among its inputs become initializers."""
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        output = f"{_PREFIX}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output


def _latents(add: _Builder, prior: Prior) -> str:
    """Add the nodes from `noise` to latents f32[N, D]; return the name of the latents."""
    columns = np.array([1]), np.array([prior.latent_dim + 1]), np.array([1])
    eps = add("Slice", "noise", *columns)
    if prior.low is not None and prior.high is not None:
        middle, half = (prior.low + prior.high) / 2, (prior.high - prior.low) / 2
        signed = add("Erf", add("Mul", eps, np.array(1 / sqrt(2))))  # 2 Φ - 1
        return add("Add", add("Mul", signed, half), middle)
    if prior.weights is None:
        return eps
    if prior.center is None or prior.directions is None or prior.residual is None:
        return _mixture(add, prior, eps)
    projected = add("MatMul", eps, prior.directions.T)
    along = add("MatMul", _mixture(add, prior, projected), prior.directions)
    rest = add("Sub", eps, add("MatMul", projected, prior.directions))
    return add("Add", add("Add", along, prior.center), add("Mul", rest, prior.residual))


def _mixture(add: _Builder, prior: Prior, eps: str) -> str:
    """Compute mean + L·eps of the component that the first column of the noise picks."""
    assert prior.weights is not None
    assert prior.mean is not None
    assert prior.cholesky is not None
    (rows, m), k = prior.weights.shape, prior.coordinates
    factors = np.zeros((rows * m, k, k))
    lower = np.tril_indices(k)
    factors[:, lower[0], lower[1]] = prior.cholesky.reshape(rows * m, -1)
    means = prior.mean.reshape(rows * m, k)
    if rows * m == 1:
        return add("Add", add("MatMul", eps, factors[0].T), means[0])
    place = _component(add, prior)
    spread = add("MatMul", add("Gather", factors, place), add("Unsqueeze", eps, np.array([2])))
    return add("Add", add("Squeeze", spread, np.array([2])), add("Gather", means, place))


def _component(add: _Builder, prior: Prior) -> str:
    """Find the component, i64[N], counted over all rows of the prior."""
    assert prior.weights is not None
    m = prior.weights.shape[1]
    cumulative = np.cumsum(prior.weights, axis=1)
    cumulative /= cumulative[:, -1:]
    first = add("Slice", "noise", np.array([0]), np.array([1]), np.array([1]))
    phi = add("Erf", add("Mul", first, np.array(1 / sqrt(2))))
    uniform = add("Mul", add("Add", phi, np.array(1.0)), np.array(0.5))
    uniform = add("Min", uniform, np.array(BELOW_ONE))
    per_class = prior.kind == "class_gmm"
    edges = add("Gather", cumulative, "label") if per_class else add.constant(cumulative)
    above = add("Cast", add("GreaterOrEqual", uniform, edges), to=TensorProto.INT64)
    component = add("ReduceSum", above, np.array([1]), keepdims=0)
    if not per_class:
        return component
    return add("Add", component, add("Mul", "label", np.array(m)))
