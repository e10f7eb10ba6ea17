"""What a graph's constants ask for: sizes that would exhaust memory, and divisions by zero."""

from __future__ import annotations

from collections.abc import Iterator

from .nodes import Node
from .operators import DIVIDES, INT32, INT64, MAX_ELEMENTS, PICKS, SIZES
from .protobuf import Malformed
from .tensors import Tensor

_MAX_STEPS = 1000  # nodes on the way to one size


def check_sizes(data: bytes, nodes: list[Node], tensors: dict[str, Tensor]) -> None:
    """Check every constant that a size is made of.

    A size that depends on other sizes alone cannot be bounded here; the sizes it starts from are.

    Raises:
        Malformed: with the operator, and how many elements it would make.
    """
    makers = {name: node for node in nodes for name in node.outputs if name}
    for node in nodes:
        for index in SIZES.get(node.op, ()):
            if index < len(node.inputs) and node.inputs[index]:
                _check_size(data, node, node.inputs[index], makers, tensors)
        if node.op in DIVIDES and len(node.inputs) > 1:
            divisor = tensors.get(node.inputs[1])
            if divisor and divisor.kind in (INT32, INT64) and 0 in divisor.values(data):
                raise Malformed(f"{node.op} divides whole numbers by zero")


def _check_size(
    data: bytes, node: Node, name: str, makers: dict[str, Node], tensors: dict[str, Tensor]
) -> None:
    total = 1.0
    for constant in _constants(name, makers, tensors):
        for value in constant.values(data):
            # NaN fails too: every comparison with it is false.
            total *= max(1.0, abs(value)) if value == value else float("inf")
            if not total <= MAX_ELEMENTS:
                raise Malformed(f"{node.op} asks for more than {MAX_ELEMENTS:,} elements")


def _constants(name: str, makers: dict[str, Node], tensors: dict[str, Tensor]) -> Iterator[Tensor]:
    """The constants that a value is made of; behind a Shape stand sizes that are there already."""
    waiting, seen = [name], {name}
    while waiting:
        current = waiting.pop()
        if current in tensors:
            yield tensors[current]
            continue
        node = makers.get(current)
        if node is None or node.op in ("Shape", "Size"):
            continue
        for source in node.inputs[:1] if node.op in PICKS else node.inputs:
            if source and source not in seen:
                seen.add(source)
                waiting.append(source)
        if len(seen) > _MAX_STEPS:
            raise Malformed("a size is computed in too many steps")
