"""Limits and malformed graphs that no other test covers."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.security.build import (
    attribute,
    field,
    graph,
    model,
    node,
    reals,
    value,
    varint,
)
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph, nodes
from vae_runtime.graph_checks import model as models

pytestmark = pytest.mark.torch_free

REAL = varint(7 << 3 | 5) + struct.pack("<f", 1)
SUM = node("Concat", "x x x", "a", axis=0)


def listing(numbers: bytes, kind: int) -> bytes:
    """A node with an attribute that is a list."""
    return node("Relu", "x", more=field(5, field(1, "list") + numbers + field(20, kind)))


LIMITS: dict[str, tuple[Any, str, int, bytes, str]] = {
    "inputs": (nodes, "_MAX_ENDS", 2, graph([SUM]), "no outputs, or too many"),
    "outputs": (nodes, "_MAX_ENDS", 2, graph([node("Split", "x", "a b c")]), "too many"),
    "reals": (nodes, "_MAX_NUMBERS", 3, graph([listing(REAL * 4, 6)]), "list is too long"),
    "texts": (nodes, "_MAX_NUMBERS", 3, graph([listing(field(9, "a") * 4, 8)]), "is too long"),
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
        model(graph([node("Relu", "x")], more=field(13, value("z", ["batch", -1])))), "impossible",
    ),
    "no outputs": (model(graph([node("Relu", "x", "")])), "no outputs"),
    "a list of another type": (
        model(graph([node("Relu", "x", more=field(5, attribute("axes", [1])[:-1] + b"\2"))])),
        "does not fit its value",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_malformed_graphs(name: str) -> None:
    raw, reason = FORMS[name]
    with pytest.raises(InputError, match=rf"^x\.onnx: refused: .*{reason}"):
        check_graph(raw, "x.onnx")
