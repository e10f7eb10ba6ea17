"""Convert a graph to float16: weights and arithmetic in float16, inputs and outputs in float32.

This halves the size and saves time on GPUs with float16 units. CPUs compute in float32 anyway.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, defs, helper, numpy_helper

from vae_runtime.errors import UsageError

_MAX_FLOAT16 = float(np.finfo(np.float16).max)
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a copy of `model` to float16, adding casts at its inputs and outputs.

    Operator inputs that must be float32, such as the scales of Resize, are cast back.

    Raises:
        UsageError: a weight is too large for float16.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    opset = result.opset_import[0].version
    for tensor in graph.initializer:
        _halve(tensor)
    # The graph's inputs and outputs keep their names and types; float32 values between them become
    # float16.
    inputs = {v.name for v in graph.input if v.type.tensor_type.elem_type == _FLOAT}
    outputs = {v.name for v in graph.output if v.type.tensor_type.elem_type == _FLOAT}
    inner = {name: f"{name}_half" for name in inputs | outputs}
    nodes = [_cast(name, inner[name], _HALF) for name in sorted(inputs)]
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = inner.get(name, name)
        _halve_attributes(node)
        nodes += [*_casts_back(node, opset), node]
    nodes += [_cast(inner[name], name, _FLOAT) for name in sorted(outputs)]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _halve(tensor: TensorProto) -> None:
    if tensor.data_type != _FLOAT:
        return
    values = numpy_helper.to_array(tensor)
    if values.size and np.abs(values).max() > _MAX_FLOAT16:
        raise UsageError(
            f"fp16: weight {tensor.name} reaches {np.abs(values).max():.3g}, the largest float16 "
            f"is {_MAX_FLOAT16:g}. Use --variant uint8."
        )
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), tensor.name))


def _halve_attributes(node: NodeProto) -> None:
    """Convert a node's constants to float16; turn a cast to float32 into one to float16."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR:
            _halve(attribute.t)
        elif node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
            attribute.i = _HALF


def _casts_back(node: NodeProto, opset: int) -> list[NodeProto]:
    """Cast those inputs of `node` that cannot be float16 to float32."""
    schema = defs.get_schema(node.op_type, opset)
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    casts = []
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        types = allowed.get(formal.type_str, [formal.type_str])
        if name and "tensor(float)" in types and "tensor(float16)" not in types:
            node.input[index] = f"{node.output[0]}_{formal.name}_float"
            casts.append(_cast(name, node.input[index], _FLOAT))
    return casts


def _cast(source: str, target: str, dtype: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=dtype)
