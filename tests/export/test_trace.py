"""Traced graphs: no node runs while a graph is loaded."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from vae_export.graphs import Graph
from vae_export.trace import _fold_constants, trace
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph


class Constants(nn.Module):
    """Adds a row that is computed from constants only, in several steps and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("row", torch.arange(8.0).reshape(1, 8))
        self.linear = nn.Linear(8, 8)

    def forward(self, z: Tensor) -> Tensor:
        a, b = self.linear(self.get_buffer("row")).chunk(2, dim=1)
        return torch.cat([z[:, :4] * torch.sigmoid(a), z[:, 4:] + b], dim=1)


def constant_nodes(proto: onnx.ModelProto) -> list[str]:
    known, found = {tensor.name for tensor in proto.graph.initializer}, []
    for node in proto.graph.node:
        if known.issuperset(filter(None, node.input)):
            found.append(node.op_type)
            known.update(node.output)
    return found


@pytest.mark.parametrize("opset", [18, 21, 23])
def test_constants_are_folded(opset: int) -> None:
    module = Constants().eval()
    proto = trace(Graph("decoder", module, ("z",), ("image",)), {"z": torch.zeros(2, 8)}, opset)
    assert constant_nodes(proto) == []
    assert "Split" not in {node.op_type for node in proto.graph.node}
    check_graph(proto.SerializeToString(), "decoder.onnx")
    z = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    (found,) = onnx.reference.ReferenceEvaluator(proto).run(None, {"z": z})
    expected = module(torch.from_numpy(z)).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def model(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 2]) for n in "xy"]
    tensors = [numpy_helper.from_array(np.array([1, 2], np.float32), "a"),
               numpy_helper.from_array(np.array([3, 4], np.float32), "unused")]  # fmt: skip
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_only_what_is_needed_is_stored() -> None:
    proto = model(
        helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    )  # fmt: skip
    with pytest.raises(InputError, match="was not folded"):
        check_graph(proto.SerializeToString(), "x")
    _fold_constants(proto)
    assert [node.op_type for node in proto.graph.node] == ["Add"]
    (tensor,) = proto.graph.initializer
    assert tensor.name == "c"
    np.testing.assert_allclose(numpy_helper.to_array(tensor), np.exp([-1, -2]), rtol=1e-6)
    check_graph(proto.SerializeToString(), "x")


def test_a_graph_without_constant_nodes_is_unchanged() -> None:
    proto = model(helper.make_node("Add", ["x", "a"], ["y"]))
    before = proto.SerializeToString(deterministic=True)
    _fold_constants(proto)
    assert proto.SerializeToString(deterministic=True) == before
