"""A graph pass: every Reshape gets a constant target, with 0 ("as the input has it") for the batch.

torch writes -1, or a Shape node, where all axes but the first are in fact known. onnxruntime cannot
resolve -1 in an empty batch, and computes the Shape nodes anew at each run.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass


def make_reshapes_static(model: ir.Model) -> None:
    """Rewrite the model's Reshape nodes in place, and drop the nodes that nothing needs."""
    for node in model.graph:
        if node.op_type != "Reshape":
            continue
        dims = _static_dims(node)
        if dims is None:
            continue
        name = f"{node.outputs[0].name}_shape"
        value = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape([len(dims) + 1]),
            const_value=ir.tensor(np.array([0, *dims], np.int64), name=name),
        )
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
        node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
    RemoveUnusedNodesPass()(model)


def _static_dims(node: ir.Node) -> list[int] | None:
    """All axes of the result but the first; None if one is unknown or the batch is not kept."""
    source, target = node.inputs
    shape = node.outputs[0].shape
    producer = None if target is None else target.producer()
    if producer is not None and producer.op_type == "Shape":
        # Back to the shape of another value, as GroupNorm does.
        origin = producer.inputs[0]
        shape = None if origin is None else origin.shape
    if source is None or source.shape is None or shape is None or len(shape) < 2:
        return None
    dims = [d for d in shape.dims[1:] if isinstance(d, int)]
    kept = not isinstance(shape[0], int) and not isinstance(source.shape[0], int)
    return dims if kept and len(dims) == len(shape) - 1 else None
