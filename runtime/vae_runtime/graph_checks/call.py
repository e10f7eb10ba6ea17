"""One operator applied to tensors of known size: what the rules for output sizes read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .nodes import Node, Tensor
from .operators import INTEGERS
from .protobuf import Malformed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Array:
    """A tensor: its element type and shape; its value if that does not depend on the input's.

    Attributes:
        kind: ONNX number of the element type.
        shape: sizes of its axes for the batch size in question.
        value: its elements, if computed from constants and from shapes only.
        constant: whether it is stored in the file.
    """

    kind: int
    shape: Shape
    value: NDArray[Any] | None = None
    constant: bool = False


@dataclass(frozen=True)
class Call:
    """A node together with its inputs; None stands for an optional input without a name."""

    node: Node
    inputs: list[Array | None]

    def fail(self, what: str) -> Malformed:
        """Return the error to raise."""
        shapes = ", ".join(str(list(one.shape)) for one in self.inputs if one)
        return Malformed(f"{self.node.op}: {what} (inputs of the shapes {shapes})")

    def check(self, ok: bool, what: str) -> None:
        """Raise `Malformed` unless `ok`."""
        if not ok:
            raise self.fail(what)

    def has(self, index: int) -> bool:
        """Return whether an optional input is given."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def array(self, index: int) -> Array:
        """Return a required input."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise self.fail(f"input {index} is missing")
        return found

    def shape(self, index: int = 0) -> Shape:
        """Return the shape of a required input."""
        return self.array(index).shape

    def ints(self, index: int) -> list[int]:
        """Return the values of an input that lists sizes or axes.

        Raises:
            Malformed: they depend on the values of the graph's input.
        """
        self.check(len(self.shape(index)) == 1, "expected a list of integers")
        return self._known(index)

    def _known(self, index: int) -> list[int]:
        found = self.array(index)
        if found.value is None:
            raise self.fail("a size depends on the values of the graph's input")
        self.check(found.kind in INTEGERS, "sizes must be integers")
        return [int(value) for value in found.value.reshape(-1)]

    def one_int(self, index: int) -> int:
        """Return the value of an input that holds a single integer, in a list or not."""
        values = self._known(index)
        self.check(len(values) == 1, "expected a single integer")
        return values[0]

    def attribute(self, name: str, default: int = 0) -> int:
        """Return an integer attribute."""
        value = self.node.attributes.get(name, default)
        assert isinstance(value, int)
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute that lists integers, or None if it is not given."""
        value = self.node.attributes.get(name)
        assert value is None or isinstance(value, tuple)
        return value

    def word(self, name: str, default: str = "") -> str:
        """Return a text attribute."""
        value = self.node.attributes.get(name, default)
        assert isinstance(value, str)
        return value

    def tensor(self, name: str) -> Tensor | None:
        """Return an attribute that holds a tensor, or None if it is not given."""
        value = self.node.attributes.get(name)
        assert value is None or isinstance(value, Tensor)
        return value

    def axis(self, axis: int, rank: int | None = None, extra: int = 0) -> int:
        """Return an axis as a number from 0; `extra` is 1 where the axis may equal the rank."""
        rank = len(self.shape()) if rank is None else rank
        self.check(-rank - extra <= axis < rank + extra, f"axis {axis} does not exist")
        return axis + rank if axis < 0 else axis

    def axes(self, values: list[int] | tuple[int, ...], rank: int | None = None) -> list[int]:
        """Return different axes as numbers from 0."""
        found = [self.axis(value, rank) for value in values]
        self.check(len(set(found)) == len(found), "an axis occurs twice")
        return found


Rule: TypeAlias = Callable[[Call], list[Shape]]


def broadcast(call: Call, *shapes: Shape) -> Shape:
    """Return the shape to which NumPy's rules broadcast the shapes."""
    rank = max(map(len, shapes))
    sizes = []
    for axis in range(-rank, 0):
        found = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        call.check(len(found) <= 1, "the shapes do not fit")
        sizes.append(found.pop() if found else 1)
    return tuple(sizes)


def elements(shape: Shape) -> int:
    """Return the number of elements."""
    return math.prod(shape)
