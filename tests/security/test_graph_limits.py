"""Limits and malformed graphs that no other test covers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.build import (
    field,
    graph,
    model,
    node,
    reals,
    value,
)
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph, nodes
from vae_runtime.graph_checks import model as models

pytestmark = pytest.mark.torch_free

RELU = node("Relu", "x")
SUM = node("Sum", "x x x", "a")


LIMITS: dict[str, tuple[Any, str, int, bytes, str]] = {
    "inputs": (nodes, "_MAX_ENDS", 2, graph([SUM, RELU]), "3 inputs, expected 1 to 2"),
    "outputs": (nodes, "_MAX_ENDS", 2, graph([node("Split", "x", "a b c d", axis=1, num_outputs=4),
                                              RELU]), "4 outputs, expected 1 to 2"),
    "integers": (nodes, "_MAX_NUMBERS", 1, graph([node("Transpose", "x", "t", perm=[1, 0]), RELU]),
                 "more than 1 numbers"),
    "nodes": (models, "_MAX_NODES", 1, graph([node("Relu", "x"), node("Relu", "x", "z")]),
              "more than 1 nodes or tensors"),
    "tensors": (models, "_MAX_NODES", 1, graph([node("Relu", "x")], [reals("a"), reals("b")]),
                "more than 1 nodes or tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_graph_limits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, limit, number, body, reason = LIMITS[name]
    check_graph(model(body), "x.onnx")
    monkeypatch.setattr(module, limit, number)
    with pytest.raises(InputError, match=rf"^x\.onnx: refused: .*{reason}"):
        check_graph(model(body), "x.onnx")


FORMS = {
    "no graph": (field(1, 8) + field(8, field(1, "") + field(2, 18)), "no graph, or no operator"),
    "no operator set": (field(1, 8) + field(7, graph([node("Relu", "x")])), "no operator set"),
    "an old version": (model(graph([node("Relu", "x")]))[2:], "IR version 0"),
    "a version to come": (
        field(1, 101) + model(graph([node("Relu", "x")]))[2:], "IR version 101",
    ),
    "a negative size": (
        model(graph([node("Relu", "x")], more=field(11, value("z", ["batch", -1])))), "impossible",
    ),
    "no outputs": (model(graph([node("Relu", "x", "")])), "0 outputs"),
    "a list of another type": (
        model(graph([node("Transpose", "x", more=field(5, field(1, "perm") + field(8, 1)
                                                       + field(20, 2)))])),
        "does not fit its value, expected ints",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_malformed_graphs(name: str) -> None:
    raw, reason = FORMS[name]
    with pytest.raises(InputError, match=rf"^x\.onnx: refused: .*{reason}"):
        check_graph(raw, "x.onnx")
