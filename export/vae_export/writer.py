"""One traced module to the bytes of one `.onnx` file: same module, same bytes."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator

import onnx
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor

from vae_runtime.card import METADATA_KEY, Card

from .contract import check_contract
from .graphs import Graph
from .static_shapes import make_reshapes_static

OPSET = 18
# The lowest IR that holds each opset, so that the oldest runtime reads it: onnxruntime 1.16 for 18.
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
PRODUCER = "vae-onnx"


def write_graph(graph: Graph, example: dict[str, Tensor], card: Card, opset: int = OPSET) -> bytes:
    """Export one graph and check its contract.

    Args:
        graph: what to trace.
        example: an input of at least two rows for each name.
        card: stored in the file's metadata.
        opset: of `ai.onnx`.

    Returns:
        The bytes of a self-contained ONNX model.

    Raises:
        IntegrityError: the exporter wrote something else than the bundle format allows.
    """
    batch = torch.export.Dim.DYNAMIC
    with _quiet():
        program = torch.onnx.export(
            graph.module,
            tuple(example[name] for name in graph.inputs),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            dynamic_shapes=tuple({0: batch} for _ in graph.inputs),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model
    make_reshapes_static(model)
    ClearMetadataAndDocStringPass()(model)
    proto = onnx_ir.to_proto(model)
    proto.ir_version = IR_VERSIONS[opset]
    _normalise(proto, graph, card)
    check_contract(proto, graph.role, graph.inputs, graph.outputs, opset, IR_VERSIONS[opset])
    return proto.SerializeToString(deterministic=True)


def _normalise(proto: onnx.ModelProto, graph: Graph, card: Card) -> None:
    """Leave nothing that depends on where, when or by which version the file was made."""
    proto.producer_name = PRODUCER
    proto.producer_version = ""
    proto.graph.name = graph.role
    del proto.metadata_props[:]
    del proto.functions[:]
    # Intermediate shapes help no runtime; onnxruntime infers them again.
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    own = card.to_json() | {"role": graph.role, "variant": "fp32"}
    text = json.dumps(own, separators=(",", ":"), ensure_ascii=False)
    proto.metadata_props.add(key=METADATA_KEY, value=text)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own chatter away from the user; what matters is checked afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
