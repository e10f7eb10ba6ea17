"""Small ONNX files that would allocate gigabytes or never end."""

from __future__ import annotations

import struct

from tests.security.build import INT64, field, graph, integers, model, node, reals, tensor


def _with(*nodes: bytes, tensors: list[bytes] = []) -> bytes:  # noqa: B006
    return model(graph(list(nodes), tensors))


def bombs() -> dict[str, tuple[bytes, str]]:
    """Small files that would allocate gigabytes or never end, and part of the error message."""
    big, many = integers("s", 1 << 20, 1 << 20), f"more than {1 << 28:,} elements"
    constant = node("Constant", "", "s", value=big)
    chain = [node("Shape", "x", "b"), node("Concat", "b s", "t", axis=0)]
    product = [node("Size", "x", "n"), node("Mul", "n p", "q"), node("ConstantOfShape", "q")]
    folded, by_value = "was not folded", "a size depends on the values of the graph's input"
    computed = [node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "i", to=7),
                node("Unsqueeze", "i zero", "s")]  # fmt: skip
    zero = integers("zero", 0)
    scales = "a scale that is no size"
    return {
        "ConstantOfShape": (_with(node("ConstantOfShape", "s"), tensors=[big]), folded),
        "ConstantOfShape of a node": (_with(constant, node("ConstantOfShape", "s")), folded),
        "ConstantOfShape of a chain": (
            _with(*chain, node("ConstantOfShape", "t"), tensors=[big]), many,
        ),
        "ConstantOfShape of a product": (_with(*product, tensors=[integers("p", 1 << 28)]), many),
        "ConstantOfShape of values": (
            _with(*computed, node("ConstantOfShape", "s"), tensors=[zero]), by_value,
        ),
        "Expand": (_with(node("Expand", "x s"), tensors=[integers("s", 1 << 29, 1, 4)]), many),
        "Expand of values": (_with(*computed, node("Expand", "x s"), tensors=[zero]), by_value),
        "Tile": (_with(node("Tile", "x s"), tensors=[big]), many),
        "Tile of values": (_with(*computed, node("Tile", "x s"), tensors=[zero]), by_value),
        "Pad": (_with(node("Pad", "x s"), tensors=[integers("s", 0, 0, 1 << 20, 1 << 20)]), many),
        "Resize by scales": (
            _with(node("Resize", "x r s"), tensors=[reals("r"), reals("s", 1, 3e9)]), scales,
        ),
        "Resize by NaN": (
            _with(node("Resize", "x r s"), tensors=[reals("r"), reals("s", 1, float("nan"))]),
            scales,
        ),
        "Resize by sizes": (
            _with(
                node("Resize", "x r e s"),
                tensors=[reals("r"), reals("e"), integers("s", *[1 << 15] * 2)],
            ),
            many,
        ),
        "Range": (
            _with(
                node("Size", "x", "n"), node("Mul", "n k", "s"), node("Range", "a s d"),
                tensors=[_scalar("a", 0), _scalar("k", 1 << 27), _scalar("d", 1)],
            ),
            many,
        ),
        "OneHot": (
            _with(
                node("Cast", "x", "i", to=7), node("OneHot", "i s v"),
                tensors=[integers("s", 1 << 40), reals("v", 0, 1)],
            ),
            many,
        ),
        "Reshape": (_with(node("Reshape", "x s"), tensors=[big]), "sizes [1048576, 1048576]"),
        "negative sizes": (
            _with(node("Expand", "x s"), tensors=[integers("s", -(1 << 40), 1)]), "sizes [-1099",
        ),
        "a tensor without bytes": (
            _with(node("Expand", "x s"), tensors=[tensor("s", [1 << 20, 1 << 20], b"", INT64)]),
            "an impossible shape",
        ),
        "output_shape": (
            _with(node("ConvTranspose", "x w", output_shape=[1 << 20, 1 << 20])), "output_shape is",
        ),
        "doubling": (doubling(), "more than"),
        "many at a time": (
            _with(
                *(node("Expand", "x s", f"e{i}") for i in range(5)),
                node("Sum", " ".join(f"e{i}" for i in range(5)), "z"), node("Relu", "x"),
                tensors=[integers("s", 1 << 18, 1, 4)],
            ),
            "are needed at once",
        ),
        "Einsum": (
            _with(_einsum("x " * 12, ",".join(f"{a}{b}" for a, b in zip("abcdefghijkl",
                  "mnopqrstuvwx", strict=True)) + "->am")), "products",
        ),
    }  # fmt: skip


def _scalar(name: str, number: int) -> bytes:
    return tensor(name, [], struct.pack("<q", number), INT64)


def _einsum(inputs: str, equation: str) -> bytes:
    return node(
        "Einsum", inputs, more=field(5, field(1, "equation") + field(4, equation) + field(20, 3))
    )


def doubling(times: int = 8) -> bytes:
    """x + xᵀ, flattened, repeatedly: each step squares the size."""
    nodes, name = [], "x"
    for i in range(times):
        nodes += [
            node("Reshape", f"{name} row", f"r{i}"), node("Reshape", f"{name} column", f"c{i}"),
            node("Add", f"r{i} c{i}", f"n{i}"),
        ]  # fmt: skip
        name = f"n{i}"
    nodes.append(node("Reshape", f"{name} row", "y"))
    return model(graph(nodes, [integers("row", 1, -1), integers("column", -1, 1)]))
