"""Good and hostile ONNX files, written byte by byte without the onnx package."""

from __future__ import annotations

import struct
from typing import Any

FLOAT, INT32, INT64 = 1, 6, 7


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes | str | int) -> bytes:
    """One field: an integer as a varint, anything else as bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    raw = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def tensor(name: str, dims: list[int], raw: bytes, kind: int = FLOAT, more: bytes = b"") -> bytes:
    """A TensorProto."""
    return (
        b"".join(field(1, d) for d in dims)
        + field(2, kind) + field(8, name) + field(9, raw) + more
    )  # fmt: skip


def integers(name: str, *values: int) -> bytes:
    """A tensor of int64."""
    return tensor(name, [len(values)], struct.pack(f"<{len(values)}q", *values), INT64)


def reals(name: str, *values: float) -> bytes:
    """A tensor of float32."""
    return tensor(name, [len(values)], struct.pack(f"<{len(values)}f", *values))


def attribute(name: str, value: Any) -> bytes:
    """An AttributeProto of an integer, a list of integers or a tensor."""
    if isinstance(value, int):
        return field(1, name) + field(3, value) + field(20, 2)
    if isinstance(value, bytes):
        return field(1, name) + field(5, value) + field(20, 4)
    return field(1, name) + b"".join(field(8, v) for v in value) + field(20, 7)


def node(
    op: str, inputs: str, outputs: str = "y", *, domain: str = "", more: bytes = b"", **given: Any
) -> bytes:
    """A NodeProto; names are split at spaces."""
    return (
        b"".join(field(1, name) for name in inputs.split())
        + b"".join(field(2, name) for name in outputs.split())
        + field(4, op)
        + b"".join(field(5, attribute(name, value)) for name, value in given.items())
        + (field(7, domain) if domain else b"")
        + more
    )


def value(name: str, dims: list[int | str], kind: int = FLOAT) -> bytes:
    """A ValueInfoProto."""
    shape = b"".join(field(1, field(2 if isinstance(d, str) else 1, d)) for d in dims)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def graph(nodes: list[bytes], tensors: list[bytes] = [], more: bytes = b"") -> bytes:  # noqa: B006
    """A GraphProto from `x` f32[batch, 4] to `y`."""
    return (
        b"".join(field(1, n) for n in nodes) + field(2, "g")
        + b"".join(field(5, t) for t in tensors)
        + field(11, value("x", ["batch", 4])) + field(12, value("y", ["batch", "n"])) + more
    )  # fmt: skip


def model(body: bytes, more: bytes = b"", opset: bytes = field(1, "") + field(2, 18)) -> bytes:
    """A ModelProto."""
    return field(1, 8) + field(7, body) + field(8, opset) + more


SOUND = model(graph([node("Relu", "x")]))
_EMPTY = struct.pack("<0q")


def _with(*nodes: bytes, tensors: list[bytes] = [], more: bytes = b"") -> bytes:  # noqa: B006
    return model(graph(list(nodes), tensors, more))


def layers() -> bytes:
    """A small good decoder that has every layer whose attributes have crashed onnxruntime."""
    nodes = [
        node("Reshape", "x square", "a"),
        node(
            "ConvTranspose", "a w", "b", group=1, strides=[2, 2], pads=[1, 1, 1, 1],
            dilations=[1, 1], kernel_shape=[3, 3], output_padding=[1, 1],
        ),
        node("Conv", "b v", "c", group=2, strides=[1, 1], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Split", "c", "d e", axis=1, num_outputs=2),
        node("Concat", "d e", "f", axis=1),
        node("DepthToSpace", "f", "g", blocksize=2),
        node("MaxPool", "g", "h", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        node("AveragePool", "h", "i", kernel_shape=[2, 2], strides=[1, 1]),
        node("Resize", "i none scales", "j"),
        node("Flatten", "j", "y", axis=1),
    ]  # fmt: skip
    tensors = [
        integers("square", -1, 1, 2, 2), reals("none"), reals("scales", 1, 1, 2, 2),
        tensor("w", [1, 4, 3, 3], b"\0\0\0=" * 36), tensor("v", [4, 2, 3, 3], b"\0\0\0=" * 72),
    ]  # fmt: skip
    return model(graph(nodes, tensors))


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that must be refused, and part of the error message, by name."""
    conv = tensor("w", [1, 1, 1, 1], b"\0" * 4)
    inner = graph([node("Relu", "x")])
    branch = field(1, "then_branch") + field(6, inner) + field(20, 5)
    cases: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "not ONNX"),
        "text": (b"not a graph", "not ONNX"),
        "two graphs": (SOUND + field(7, inner), "twice"),
        "no operator set": (field(1, 8) + field(7, inner), "no operator set"),
        "custom operator set": (
            model(inner, opset=field(1, "com.evil") + field(2, 1)), "custom domain",
        ),
        "function": (model(inner, field(25, field(1, "f"))), "functions"),
        "training": (model(inner, field(20, b"")), "training"),
        "unknown field": (model(inner, field(99, 1)), "field 99"),
        "group": (model(inner, varint(99 << 3 | 3)), "unknown encoding"),
        "custom domain": (_with(node("Relu", "x", domain="com.microsoft")), "custom domain"),
        "custom operator": (_with(node("MyOp", "x")), "not allowed"),
        "no outputs": (_with(field(1, "x") + field(4, "Relu")), "no outputs"),
        "sub-graph": (_with(node("If", "x")), "not allowed"),
        "sub-graph in Relu": (_with(node("Relu", "x", more=field(5, branch))), "a sub-graph"),
        "graphs": (
            _with(node("Relu", "x", more=field(5, field(1, "b") + field(11, inner)))),
            "contains a sub-graph",
        ),
        "overload": (_with(node("Relu", "x", more=field(8, "o"))), "field 8"),
        "reference to an attribute": (
            _with(node("Relu", "x", more=field(5, field(1, "a") + field(21, "b")))), "field 21",
        ),
        "sparse attribute": (
            _with(node("Relu", "x", more=field(5, field(1, "a") + field(22, b"")))), "field 22",
        ),
        "sparse tensor": (_with(node("Relu", "x"), more=field(15, b"")), "sparse"),
        "same attribute twice": (
            _with(node("Conv", "x w", group=1, more=field(5, attribute("group", 0)))), "twice",
        ),
        "tensor in a Relu": (_with(node("Relu", "x", a=conv)), "holds a tensor"),
        "two tensors of a name": (
            _with(node("Conv", "x w"), tensors=[conv, conv]), "two tensors named",
        ),
        "external": (
            _with(node("Conv", "x w"), tensors=[conv + field(14, 1)]), "outside the file",
        ),
        "external path": (
            _with(
                node("Conv", "x w"),
                tensors=[conv + field(13, field(1, "location") + field(2, "/etc/passwd"))],
            ),
            "outside the file",
        ),
        "too few bytes": (
            _with(node("Conv", "x w"), tensors=[tensor("w", [4], b"\0" * 4)]), "shape says 16",
        ),
        "too many bytes": (
            _with(node("Conv", "x w"), tensors=[tensor("w", [1], b"\0" * 8)]), "shape says 4",
        ),
        "negative size": (
            _with(node("Conv", "x w"), tensors=[tensor("w", [-1], b"")]), "an impossible shape",
        ),
        "raw and listed": (
            _with(node("Conv", "x w"), tensors=[conv + field(4, b"\0" * 4)]), "has 4 bytes",
        ),
        "listed too few": (
            _with(node("Conv", "x w"), tensors=[
                field(1, 3) + field(2, INT64) + field(8, "w") + field(7, 5)]), "lists 1",
        ),
        "text tensor": (_with(node("Conv", "x w"), tensors=[tensor("w", [], b"", 8)]), "type 8"),
        "string data": (
            _with(node("Conv", "x w"), tensors=[conv + field(6, "s")]), "field 6",
        ),
        "segment": (_with(node("Conv", "x w"), tensors=[conv + field(3, b"")]), "field 3"),
        "many sizes": (
            _with(node("Conv", "x w"), tensors=[tensor("w", [1] * 17, b"\0" * 4)]), "more than 16",
        ),
        "sequence": (
            _with(node("Relu", "x"), more=field(11, field(1, "s") + field(2, field(4, b"")))),
            "field 4",
        ),
        "input of no tensor": (
            model(graph([node("Relu", "x")], more=field(11, field(1, "s") + field(2, b"")))),
            "not a tensor",
        ),
        "input of text": (
            model(graph([node("Relu", "x")], more=field(11, value("s", [1], 8)))), "type 8",
        ),
        "huge input": (
            model(graph([node("Relu", "x")], more=field(11, value("s", [1 << 40])))),
            "an impossible shape",
        ),
        "metadata twice": (
            SOUND + 2 * field(14, field(1, "k") + field(2, "v")), "twice",
        ),
        "cut off": (SOUND[:-3], "not ONNX"),
        "endless number": (b"\x08" + b"\xff" * 20, "too long"),
        "cast to text": (_with(node("Cast", "x", to=8)), "not allowed"),
        "long list": (_with(node("Transpose", "x", perm=[0] * 300)), "more than 256"),
        "wrong type of attribute": (
            _with(node("Relu", "x", more=field(5, field(1, "group") + field(3, 1) + field(20, 7)))),
            "does not fit its value",
        ),
        "division by zero": (_with(node("Div", "x c"), tensors=[integers("c", 1, 0)]), "by zero"),
        "remainder by zero": (_with(node("Mod", "x c"), tensors=[integers("c", 0)]), "by zero"),
        "deep nesting": (_nested(2000), "not ONNX"),
    }  # fmt: skip
    for op in ("Loop", "Scan", "SequenceMap", "RandomNormal", "Multinomial", "StringConcat",
               "Optional", "NonMaxSuppression", "ImageDecoder", "LSTM", "Dropout"):  # fmt: skip
        cases[op] = (_with(node(op, "x")), "not allowed")
    for op in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
        for name, bad in (("group", 0), ("group", -1), ("strides", [0, 1]), ("dilations", [1, 0]),
                          ("kernel_shape", [0, 1]), ("kernel_shape", [1 << 20, 1]),
                          ("pads", [0, 0, -1, 0]), ("strides", [1 << 30, 1])):  # fmt: skip
            cases[f"{op} {name} {bad}"] = (
                _with(node(op, "x w", **{name: bad}), tensors=[conv]), f"{op}.{name} is",
            )  # fmt: skip
    for op, name in (("DepthToSpace", "blocksize"), ("SpaceToDepth", "blocksize"),
                     ("Split", "num_outputs"), ("GroupNormalization", "num_groups")):  # fmt: skip
        cases[f"{op} {name} 0"] = (_with(node(op, "x", **{name: 0})), f"{name} is 0")
    return cases


def _nested(depth: int) -> bytes:
    """Nested messages, on which a recursive reader would run out of stack."""
    raw = b""
    for _ in range(depth):
        raw = field(7, raw)
    return raw


def bombs() -> dict[str, bytes]:
    """Small files that would allocate gigabytes when they are loaded or run."""
    big = integers("s", 1 << 20, 1 << 20)
    constant = node("Constant", "", "s", value=big)
    chain = [node("Shape", "x", "b"), node("Concat", "b s", "t", axis=0)]
    product = node("Mul", "p q", "s")
    return {
        "ConstantOfShape": _with(node("ConstantOfShape", "s"), tensors=[big]),
        "ConstantOfShape of a node": _with(constant, node("ConstantOfShape", "s")),
        "ConstantOfShape of a list": _with(
            node("Constant", "", "s", value_ints=[1 << 20, 1 << 20]), node("ConstantOfShape", "s")
        ),
        "ConstantOfShape of a chain": _with(*chain, node("ConstantOfShape", "t"), tensors=[big]),
        "ConstantOfShape of a product": _with(
            product, node("ConstantOfShape", "s"),
            tensors=[integers("p", 1 << 20), integers("q", 1 << 20)],
        ),
        "Expand": _with(node("Expand", "x s"), tensors=[big]),
        "Tile": _with(node("Tile", "x s"), tensors=[big]),
        "Pad": _with(node("Pad", "x s"), tensors=[integers("s", 0, 0, 1 << 20, 1 << 20)]),
        "Resize by scales": _with(
            node("Resize", "x r s"), tensors=[reals("r"), reals("s", 1, 3e9)]
        ),
        "Resize by NaN": _with(
            node("Resize", "x r s"), tensors=[reals("r"), reals("s", 1, float("nan"))]
        ),
        "Resize by sizes": _with(
            node("Resize", "x r e s"),
            tensors=[reals("r"), reals("e"), integers("s", *[1 << 15] * 2)],
        ),
        "Range": _with(
            node("Range", "a s d"),
            tensors=[integers("a", 0), integers("s", 1 << 40), integers("d", 1)],
        ),
        "OneHot": _with(
            node("OneHot", "x s v"), tensors=[integers("s", 1 << 40), reals("v", 0, 1)]
        ),
        "Reshape": _with(node("Reshape", "x s"), tensors=[big]),
        "negative sizes": _with(node("Expand", "x s"), tensors=[integers("s", -(1 << 40), 1)]),
        "a tensor of listed numbers": _with(
            node("ConstantOfShape", "s"),
            tensors=[field(1, 1) + field(2, INT64) + field(8, "s") + field(7, 1 << 40)],
        ),
        "a tensor without bytes": _with(
            node("Expand", "x s"), tensors=[tensor("s", [1 << 20, 1 << 20], b"", INT64)]
        ),
        "output_shape": _with(node("ConvTranspose", "x w", output_shape=[1 << 20, 1 << 20])),
    }  # fmt: skip
