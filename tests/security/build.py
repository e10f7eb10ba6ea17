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
        node("Concat", "d e", "f", axis=-3),
        node("DepthToSpace", "f", "g", blocksize=2),
        node("MaxPool", "g", "h", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 0, 0]),
        node("AveragePool", "h", "i", kernel_shape=[2, 2], strides=[1, 1]),
        node("Resize", "i none scales", "j"),
        node("Clip", "j", "k", more=field(1, "") + field(1, "most")),
        node("Flatten", "k", "y", axis=1),
    ]  # fmt: skip
    tensors = [
        integers("square", -1, 1, 2, 2), reals("none"), reals("scales", 1, 1, 2, 2),
        tensor("most", [], b"\0\0\0="),
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
        "no outputs": (_with(field(1, "x") + field(4, "Relu")), "0 outputs, expected 1"),
        "opset 17": (model(inner, opset=field(1, "") + field(2, 17)), "opset 17, expected 18"),
        "opset 24": (model(inner, opset=field(1, "") + field(2, 24)), "opset 24, expected 18"),
        "two operator sets": (model(inner, field(8, field(2, 18))), "several operator sets"),
        "no type": (_with(node("Relu", "x"), more=field(11, field(1, "s"))), "has no type"),
        "no shape": (
            _with(
                node("Relu", "x"), more=field(11, field(1, "s") + field(2, field(1, field(1, 1))))
            ),
            "has no shape",
        ),
        "shapes between": (_with(node("Relu", "x"), more=field(13, value("z", [1]))), "field 13"),
        "two inputs of a name": (
            _with(node("Relu", "x"), more=field(11, value("x", [1]))),
            "two inputs or outputs named",
        ),
        "a free axis": (
            _with(node("Relu", "x"), more=field(11, value("s", [1, "n"]))), "only the first axis",
        ),
        "an input that is a constant": (
            _with(node("Relu", "x"), tensors=[reals("x", 1)]), "two values named",
        ),
        "two values of a name": (_with(node("Relu", "x"), node("Abs", "x")), "two values named"),
        "a cycle": (_with(node("Add", "x y")), "which no node before it makes"),
        "no origin": (_with(node("Relu", "x", "z")), "nothing makes the output"),
        "constants": (_with(node("Add", "c c"), tensors=[reals("c", 1)]), "was not folded"),
        "constants of constants": (
            _with(node("Constant", "", "k", value=reals("", 1)), node("Relu", "k"),), "not folded",
        ),
        "a missing attribute": (_with(node("Concat", "x x")), "no attribute axis"),
        "no input": (_with(node("Relu", "")), "0 inputs, expected 1"),
        "an input without a name": (
            _with(node("Sum", "x", more=field(1, "") + field(1, "x"))), "input 1 has no name",
        ),
        "a last input without a name": (
            _with(node("Clip", "x", more=field(1, ""))), "the last input has no name",
        ),
        "an unknown word": (
            _with(node("Gelu", "x", more=field(5, field(1, "approximate") + field(4, "ä") +
                                               field(20, 3))),), "not allowed in opset 18",
        ),
        "an unknown mode": (
            _with(node("DepthToSpace", "x", more=field(5, field(1, "mode") + field(4, "ä") +
                                                       field(20, 3)), blocksize=2)),
            "DepthToSpace.mode is 'ä', expected DCR, CRD",
        ),
        "one row for all": (
            _with(node("ReduceSum", "x a"), tensors=[integers("a", 0)]), "for a batch of 256",
        ),
        "two rows for each": (_with(node("Concat", "x x", axis=0)), "the shape [2, 4] for a batch"),
        "another type": (_with(node("Cast", "x", to=7)), "the output 'y'"),
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
        "tensor in a Relu": (_with(node("Relu", "x", a=conv)), "no attribute 'a'"),
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
            _with(
                node("Conv", "x w", more=field(5, field(1, "group") + field(3, 1) + field(20, 7)))
            ),
            "does not fit its value",
        ),
        **_sizes_and_types(),
        **{f"division: {name}": case for name, case in _divisions().items()},
        "deep nesting": (_nested(2000), "not ONNX"),
    }  # fmt: skip
    for op in ("Loop", "Scan", "SequenceMap", "RandomNormal", "Multinomial", "StringConcat",
               "Optional", "NonMaxSuppression", "ImageDecoder", "LSTM", "Dropout"):  # fmt: skip
        cases[op] = (_with(node(op, "x")), "not allowed")
    for op in ("Conv", "ConvTranspose"):
        for name, bad in (("group", 0), ("group", -1), ("strides", [0, 1]), ("dilations", [1, 0]),
                          ("kernel_shape", [0, 1]), ("kernel_shape", [1 << 20, 1]),
                          ("pads", [0, 0, -1, 0]), ("strides", [1 << 30, 1])):  # fmt: skip
            cases[f"{op} {name} {bad}"] = (
                _with(node(op, "x w", **{name: bad}), tensors=[conv]), f"{op}.{name} is",
            )  # fmt: skip
    for op, name in (("DepthToSpace", "blocksize"), ("SpaceToDepth", "blocksize"),
                     ("Split", "num_outputs"), ("GroupNormalization", "num_groups")):  # fmt: skip
        opset = field(1, "") + field(2, 21)
        inputs = "x x x" if op == "GroupNormalization" else "x"
        raw = model(graph([node(op, inputs, **{name: 0})]), opset=opset)
        cases[f"{op} {name} 0"] = (raw, f"{name} is 0")
    return cases


def _sizes_and_types() -> dict[str, tuple[bytes, str]]:
    """Inputs, outputs and tensors that have the wrong size, type or number."""
    sound, shape = node("Relu", "x"), node("Shape", "x", "d")
    two_values = field(1, "axis") + field(3, 1) + field(8, 1) + field(20, 2)
    return {
        "a scalar input": (
            _with(sound, more=field(11, value("s", []))), "only the first axis of an input",
        ),
        "an input of many axes": (
            _with(sound, more=field(11, value("s", [1] * 17))), "an impossible shape",
        ),
        "an output of another rank": (
            _with(node("Reshape", "x s"), tensors=[integers("s", -1, 2, 2)]),
            "the output 'y' has the shape [1, 2, 2]",
        ),
        "a type that does not fit": (
            _with(shape, node("Sigmoid", "d")), "Sigmoid: input 0 has the element type 7",
        ),
        "two types": (_with(shape, node("Add", "x d")), "Add: input 1 has the element type 7"),
        "an output that is not computed": (
            _with(node("BatchNormalization", "x a a a a", "y m v"), tensors=[reals("a", *[1] * 4)]),
            "an output that is not supported",
        ),
        "an empty input": (
            _with(node("Mul", "x e"), tensors=[reals("e")]), "an input without elements",
        ),
        "nothing is left": (
            _with(node("Slice", "x a a b"), tensors=[integers("a", 0), integers("b", 1)]),
            "a result without elements",
        ),
        "two negative sizes": (
            _with(sound, tensors=[tensor("w", [-1, -1], b"\0" * 4)]), "an impossible shape",
        ),
        "an input too many": (_with(node("Relu", "x x")), "2 inputs, expected 1"),
        "two values in an attribute": (
            _with(node("Flatten", "x", more=field(5, two_values))), "does not fit its value",
        ),
    }  # fmt: skip


def _divisions() -> dict[str, tuple[bytes, str]]:
    """Integer divisions, which trap for zero and for the smallest integer by -1."""
    size, shape = node("Size", "x", "s"), node("Shape", "x", "d")
    zero, minus = integers("c", 2, 0), integers("c", -1)
    constant = "by what is not a constant"
    return {
        "Div by zero": (_with(shape, node("Div", "d c"), tensors=[zero]), "by zero or by -1"),
        "Mod by zero": (_with(shape, node("Mod", "d c"), tensors=[zero]), "by zero or by -1"),
        "Div by -1": (_with(size, node("Div", "s c"), tensors=[minus]), "by zero or by -1"),
        "Mod by -1": (_with(size, node("Mod", "s c"), tensors=[minus]), "by zero or by -1"),
        "Div by a size": (_with(shape, size, node("Div", "d s")), constant),
        "Mod by a size": (_with(shape, size, node("Mod", "d s")), constant),
    }


def _nested(depth: int) -> bytes:
    """Nested messages, on which a recursive reader would run out of stack."""
    raw = b""
    for _ in range(depth):
        raw = field(7, raw)
    return raw
