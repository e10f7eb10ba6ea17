"""A torch module to an ONNX model: traced once, at opset 18, then raised to the opset asked for.

torch writes another graph for each opset. From 21 on it keeps GroupNormalization whole, which
onnxruntime then expands into a Reshape that an empty batch breaks. So there is one way to trace,
and onnx's own converter does the rest.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import onnx
import onnx_ir
import torch
from onnx import version_converter
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor
from torch.distributions import Distribution

from vae_runtime.errors import InputError, one_line

from .graphs import Graph
from .random_nodes import refuse_random
from .static_shapes import make_reshapes_static

OPSET = 18
# The lowest IR that holds each opset, so that the oldest runtime reads it: onnxruntime 1.16 for 18.
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


def trace(graph: Graph, example: dict[str, Tensor], opset: int = OPSET) -> onnx.ModelProto:
    """Trace one graph.

    Args:
        graph: what to trace.
        example: an input of at least two rows for each name.
        opset: of `ai.onnx`, 18 to 23.

    Raises:
        InputError: torch cannot trace the module with a free batch size, or it is random.
    """
    arguments = tuple(example[name] for name in graph.inputs)
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in graph.inputs)
    with _quiet():
        try:
            program = torch.export.export(
                graph.module, arguments, dynamic_shapes=dynamic, strict=False
            )
        except Exception as error:
            # Whatever a stranger's module, or torch's tracer on it, raises.
            raise InputError(
                f"{graph.role}: torch.export cannot trace the module: {_first_line(error)}"
            ) from error
        refuse_random(program, graph.module, arguments, graph.role)
        converted = torch.onnx.export(
            program,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert converted is not None
    make_reshapes_static(converted.model)
    ClearMetadataAndDocStringPass()(converted.model)
    proto = onnx_ir.to_proto(converted.model)
    # Intermediate shapes help no runtime; onnxruntime infers them again.
    del proto.graph.value_info[:]
    del proto.functions[:]
    if opset != OPSET:
        proto = version_converter.convert_version(proto, opset)
    proto.ir_version = IR_VERSIONS[opset]
    proto.graph.name = graph.role
    return proto


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0] if lines else type(error).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own chatter away from the user; what matters is checked afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    # Its checks of a distribution's parameters are decisions on data, which no trace can hold.
    validate = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(False)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Distribution.set_default_validate_args(validate)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
