"""Refusing randomness: a graph computes, the caller draws.

A random node in a traced module is found while its origin is still known, so that the error names
the line that made it. One that no output depends on is harmless: it never reaches the graph.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils._python_dispatch import TorchDispatchMode

from vae_runtime.errors import InputError

_INERT = ("dropout", "alpha_dropout", "feature_dropout", "rrelu")  # random while training only


def refuse_random(
    program: ExportedProgram, module: nn.Module, arguments: tuple[Tensor, ...], role: str
) -> None:
    """Check a traced module.

    Args:
        program: the trace.
        module: what was traced; run once more if something random is found, to see where.
        arguments: its inputs.
        role: begins the error.

    Raises:
        InputError: an output depends on a random operator; with the line that called it.
    """
    for node in _needed(program):
        if _is_random(node):
            same = [other for other in program.graph.nodes if other.target == node.target]
            origin = _origin(module, arguments, node.target, same.index(node))
            raise InputError(
                f"{role}: {node.target} is random, made at {origin}. A graph must compute "
                "the same each time: return the mean, or the parameters of the distribution."
            )


def _needed(program: ExportedProgram) -> Iterator[Node]:
    """The nodes that an output depends on."""
    waiting = [node for node in program.graph.nodes if node.op == "output"]
    seen = set(waiting)
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in seen:
                seen.add(node)
                waiting.append(node)
    # In the order of the graph: the first one is named, the same at each run.
    return (node for node in program.graph.nodes if node in seen)


def _is_random(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if torch.Tag.nondeterministic_seeded not in node.target.tags:
        return False
    name = node.target._schema.name.split("::")[-1].rstrip("_")
    return name not in _INERT or _trains(node)


def _trains(node: Node) -> bool:
    """Whether the call's `train` or `training` argument is true."""
    assert isinstance(node.target, torch._ops.OpOverload)
    for index, argument in enumerate(node.target._schema.arguments):
        if argument.name in ("train", "training"):
            given = node.args[index] if index < len(node.args) else node.kwargs.get(argument.name)
            return bool(argument.default_value if given is None else given)
    return True


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the stack at the n-th call of one operator."""

    def __init__(self, target: Any, ordinal: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.target, self.left = target, ordinal
        self.stack: list[traceback.FrameSummary] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func == self.target:
            if self.left == 0:
                self.stack = list(traceback.extract_stack())
            self.left -= 1
        return func(*args, **(kwargs or {}))


def _origin(module: nn.Module, arguments: tuple[Tensor, ...], target: Any, ordinal: int) -> str:
    """`model.py:12 in encode: eps = torch.randn_like(std)`, the innermost line outside torch.

    The trace itself keeps frames called `forward` only, so the module is run and watched.
    """
    with torch.no_grad(), _Watch(target, ordinal) as watch:
        module(*arguments)
    inside = (str(Path(torch.__file__).parent), __file__)
    own = [frame for frame in watch.stack if not frame.filename.startswith(inside)]
    if not own:
        return "an unknown line"
    frame = own[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}: {frame.line}"
