"""Trace a torch module into a deterministic ONNX model with a free batch size.

Models are traced at opset 18, then converted to the requested opset by onnx. torch itself writes a
different graph for each opset. From opset 21 on, it keeps GroupNormalization nodes; onnxruntime
expands these into a Reshape that fails on an empty batch.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import version_converter
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedNodesPass
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._python_dispatch import TorchDispatchMode

from vae_runtime.errors import InputError

from .graphs import Graph
from .options import DEFAULT_OPSET, IR_VERSIONS
from .user_code import innermost, user_line


def trace(graph: Graph, example: dict[str, Tensor], opset: int = DEFAULT_OPSET) -> onnx.ModelProto:
    """Trace one graph.

    Args:
        graph: the graph to trace.
        example: for each input, a tensor of at least two rows, because torch.export treats a batch
            size of one as fixed.
        opset: version of `ai.onnx`, 18 to 23.

    Raises:
        InputError: the module cannot be traced with a free batch size, or its outputs are random.
    """
    arguments = tuple(example[name] for name in graph.inputs)
    dynamic = tuple({0: torch.export.Dim.DYNAMIC} for _ in graph.inputs)
    with _quiet():
        try:
            program = torch.export.export(
                graph.module, arguments, dynamic_shapes=dynamic, strict=False
            )
        except Exception as error:
            # A custom module, or torch's tracer running on it, may raise anything.
            raise InputError(
                f"{graph.role}: torch.export cannot trace the module: {user_line(error)}"
            ) from error
        _refuse_random(program, graph, arguments)
        try:
            converted = torch.onnx.export(
                program,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=DEFAULT_OPSET,
                dynamo=True,
                verbose=False,
            )
        except Exception as error:
            # torch dumps the graph into its message; the cause names the operator.
            raise InputError(
                f"{graph.role}: torch cannot write the module as ONNX: "
                f"{user_line(_root_cause(error))}"
            ) from error
    assert converted is not None
    _make_reshapes_static(converted.model)
    ClearMetadataAndDocStringPass()(converted.model)
    proto = ir.to_proto(converted.model)
    del proto.functions[:]
    if opset != DEFAULT_OPSET:
        proto = version_converter.convert_version(proto, opset)
    # Intermediate shapes are redundant: onnxruntime infers them again.
    del proto.graph.value_info[:]
    _fold_constants(proto)
    for node in proto.graph.node:
        while node.input and not node.input[-1]:
            node.input.pop()  # an optional input that is not given
    proto.ir_version = IR_VERSIONS[opset]
    proto.graph.name = graph.role
    return proto


def _fold_constants(proto: onnx.ModelProto) -> None:
    """Replace the nodes whose inputs are all constants by their results.

    Loading a graph then runs no operator, which is faster, and safer for graphs of unknown origin:
    the runtime refuses such nodes. torch's own optimizer leaves those with several outputs, such
    as Split.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    folded: list[onnx.NodeProto] = []
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        constant = constants.issuperset(filter(None, node.input))
        (folded if constant else kept).append(node)
        constants.update(node.output if constant else ())
    if not folded:
        return
    made = {name for node in folded for name in node.output}
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    results = [onnx.ValueInfoProto(name=name) for name in sorted(made & used)]
    part = onnx.helper.make_graph(folded, "constants", [], results, graph.initializer)
    model = onnx.helper.make_model(part, opset_imports=proto.opset_import)
    for result, value in zip(results, ReferenceEvaluator(model).run(None, {}), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), result.name))
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(tensors)
    graph.node.extend(kept)


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's exporter; everything that matters is checked afterwards."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    # A distribution that validates its parameters branches on data, and such branches cannot be
    # traced.
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


# Reshape nodes


def _make_reshapes_static(model: ir.Model) -> None:
    """Give each Reshape a constant shape, with 0 ("same as the input") for the batch axis.

    torch writes -1 or a Shape node even if the sizes of all axes but the first are known.
    onnxruntime cannot resolve -1 for an empty batch, and would run the Shape nodes on every call.
    The model is changed in place, and nodes that become unused are removed.
    """
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
    """Return the sizes of all axes but the batch; None if any is unknown or the batch changes."""
    source, target = node.inputs
    shape = node.outputs[0].shape
    producer = None if target is None else target.producer()
    if producer is not None and producer.op_type == "Shape":
        # GroupNorm reshapes back to the shape of another value.
        origin = producer.inputs[0]
        shape = None if origin is None else origin.shape
    if source is None or source.shape is None or shape is None or len(shape) < 2:
        return None
    dims = [d for d in shape.dims[1:] if isinstance(d, int)]
    # Require equal symbols: [N, 8, 8, 3] → [64·N, 3] also has a free first axis, but a different
    # one.
    kept = not isinstance(shape[0], int) and shape[0] == source.shape[0]
    return dims if kept and len(dims) == len(shape) - 1 else None


# Random operators


def _refuse_random(program: ExportedProgram, graph: Graph, arguments: tuple[Tensor, ...]) -> None:
    """Reject a trace in which an output depends on a random operator.

    Random nodes that no output depends on are harmless, because the exported graph omits them.
    """
    for node in _nodes_in_use(program):
        if _is_random(node):
            same = [other for other in program.graph.nodes if other.target == node.target]
            origin = _origin(graph.module, arguments, node.target, same.index(node))
            raise InputError(
                f"{graph.role}: {node.target} is random, called at {origin}. A graph must be "
                "deterministic. Return the mean or the distribution's parameters."
            )


def _nodes_in_use(program: ExportedProgram) -> Iterator[Node]:
    """Return the nodes that an output depends on, in graph order."""
    pending = [node for node in program.graph.nodes if node.op == "output"]
    seen = set(pending)
    while pending:
        for node in pending.pop().all_input_nodes:
            if node not in seen:
                seen.add(node)
                pending.append(node)
    return (node for node in program.graph.nodes if node in seen)


def _is_random(node: Node) -> bool:
    """Return whether a call draws random numbers, according to its operator's tag and arguments.

    torch tags every operator with a dropout argument, including attention, LSTM, GRU and RNN. These
    operators are deterministic in evaluation mode, or if dropout is 0.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in node.target.tags:
        return False
    arguments = {}
    for index, argument in enumerate(node.target._schema.arguments):
        given = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
        arguments[argument.name] = argument.default_value if given is None else given
    training = [arguments[name] for name in ("train", "training") if name in arguments]
    rates = [arguments[name] for name in ("p", "dropout", "dropout_p") if name in arguments]
    return not (any(flag is False for flag in training) or any(rate == 0 for rate in rates))


class _StackRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the Python stack at the n-th call of one operator."""

    def __init__(self, target: Any, ordinal: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.remaining = target, ordinal
        self.stack: list[traceback.FrameSummary] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == self.target:
            if self.remaining == 0:
                self.stack = list(traceback.extract_stack())
            self.remaining -= 1
        return func(*args, **(kwargs or {}))


def _origin(module: nn.Module, arguments: tuple[Tensor, ...], target: Any, ordinal: int) -> str:
    """Find the innermost frame outside torch: `model.py:12 in encode: eps = torch.randn_like(std)`.

    The trace keeps only the frames of functions named `forward`, so the module is run again.
    """
    with torch.no_grad(), _StackRecorder(target, ordinal) as recorder:
        module(*arguments)
    return innermost(recorder.stack) or "an unknown line"
