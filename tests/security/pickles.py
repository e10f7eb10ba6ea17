"""Hostile pickles and checkpoint zips, written opcode by opcode without torch."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GLOBAL, STOP = b"c", b"."


class Call:
    """An object whose pickle calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def named(module: str, name: str, *arguments: Any) -> bytes:
    """A pickle that calls a function by name; it need not exist."""
    body = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02" + GLOBAL + f"{module}\n{name}\n".encode() + body + b"R" + STOP


def archive(
    program: bytes,
    method: int = zipfile.ZIP_STORED,
    more: dict[str, bytes] | None = None,
    root: str = "archive",
) -> bytes:
    """The zip of a checkpoint with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        out.writestr(f"{root}/data.pkl", program)
        out.writestr(f"{root}/byteorder", b"little")
        for name, raw in (more or {}).items():
            out.writestr(name, raw)
        out.writestr(f"{root}/version", b"3\n")
    return buffer.getvalue()


def payloads(trap: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles that would run code; each would create the file `trap`."""
    import os
    import subprocess

    touch = f"import pathlib; pathlib.Path({str(trap)!r}).touch()"
    for name, call in (
        ("exec", Call(exec, touch)), ("eval", Call(eval, f"exec({touch!r})")),
        ("system", Call(os.system, f"touch {trap}")), ("open", Call(open, str(trap), "w")),
        ("popen", Call(subprocess.Popen, ["touch", str(trap)])),
        ("getattr", Call(getattr, "x", "upper")), ("import", Call(__import__, "os")),
        ("compile", Call(compile, touch, "x", "exec")), ("mkdir", Call(os.mkdir, str(trap))),
        ("print", Call(print, "pwned")), ("input", Call(input, "?")), ("exit", Call(sys.exit, 1)),
    ):  # fmt: skip
        yield name, pickle.dumps({"format": 1, "model": call}, 2)
        if name in ("exec", "system", "open"):
            for protocol in (0, 1, 3, 4, 5):
                yield f"{name} by protocol {protocol}", pickle.dumps({"a": call}, protocol)
    for module, name in (
        ("torch", "load"), ("torch.hub", "load"), ("torch.storage", "_load_from_bytes"),
        ("torch.jit", "load"), ("torch.serialization", "load"), ("torch", "Tensor"),
        ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_qtensor"),
        ("torch._utils", "_rebuild_sparse_tensor"), ("torch._utils", "_rebuild_wrapper_subclass"),
        ("torch.nn.modules.linear", "Linear"), ("numpy", "load"), ("pathlib", "Path"),
        ("numpy.core.multiarray", "_reconstruct"), ("_codecs", "encode"), ("pickle", "loads"),
        ("vae_models", "build"), ("vae_train.checkpoint", "save_checkpoint"),
        ("collections", "Counter"),
        ("collections", "OrderedDict"), ("builtins", "set"), ("builtins", "bytearray"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"), ("torch", "FloatStorage.__init__"),
    ):  # fmt: skip
        yield f"{module}.{name}", named(module, name, str(trap))
    yield "persistent id", b"\x80\x02" + pickle.dumps(("module", "x"), 2)[2:-1] + b"Q."
    yield "a name that nothing calls", b"\x80\x02}X\x01\0\0\0acos\nsystem\ns."
    yield "text persistent id", b"Pstorage\n."
    yield "extension", b"\x80\x02\x82\x01."
    yield "inst", f"(S'touch {trap}'\nios\nsystem\n.".encode()
    yield "build", named("collections", "OrderedDict")[:-1] + b"}(X\x01\0\0\0aK\x01ub."
    yield "nothing", b""
    yield "no stop", b"\x80\x02}"
    yield "noise", bytes(range(256))


def tensor(
    size: Any,
    stride: Any,
    count: Any,
    offset: int = 0,
    key: str = "0",
    grad: bool = False,
    word: str = "storage",
) -> bytes:
    """A pickle of one tensor with this storage."""
    storage = (word, _Name("torch", "FloatStorage"), key, "cpu", count)
    stored = count if isinstance(count, list) else _Stored(storage)
    arguments = (stored, offset, size, stride, grad, OrderedDict())
    return _dumps({"format": 1, "state": _Made("torch._utils", "_rebuild_tensor_v2", arguments)})


class _Name:
    def __init__(self, module: str, name: str) -> None:
        self.text = f"{module}\n{name}\n".encode()


class _Stored:
    def __init__(self, pid: Any) -> None:
        self.pid = pid


class _Made:
    def __init__(self, module: str, name: str, arguments: Any) -> None:
        self.name, self.arguments = _Name(module, name), arguments


def _dumps(value: Any) -> bytes:
    return b"\x80\x02" + _write(value) + STOP


def _write(value: Any) -> bytes:
    if isinstance(value, _Name):
        return GLOBAL + value.text
    if isinstance(value, _Stored):
        return _write(value.pid) + b"Q"
    if isinstance(value, _Made):
        return _write(value.name) + _write(value.arguments) + b"R"
    if isinstance(value, OrderedDict):
        return GLOBAL + b"collections\nOrderedDict\n" + b")R"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_write, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_write, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(_write(k) + _write(v) for k, v in value.items())
        return b"}(" + items + b"u"
    return pickle.dumps(value, 2)[2:-1].split(b"q\x00")[0]


def laughs(levels: int) -> Any:
    value: Any = ["lol"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def deep(levels: int) -> bytes:
    return b"\x80\x02" + b"]" * levels + b"a" * (levels - 1) + b"."


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that would allocate gigabytes or read outside their bytes."""
    four = {"archive/data/0": b"\0" * 16}
    yield "bytearray", archive(pickle.dumps({"a": Call(bytearray, 10**11)}, 2))
    yield "Tensor", archive(named("torch", "Tensor", 10**5, 10**6))
    yield "storage", archive(tensor((10**11,), (1,), 10**11), more=four)
    yield "storage beyond its bytes", archive(tensor((5,), (1,), 5), more=four)
    yield "storage of nothing", archive(tensor((4,), (1,), 4, key="9"), more=four)
    yield "tensor beyond its storage", archive(tensor((4,), (2,), 4), more=four)
    yield "tensor before its storage", archive(tensor((4,), (1,), 4, -2), more=four)
    yield "tensor of a list", archive(tensor((4,), (1,), [0, 1, 2, 3]), more=four)
    yield "another word", archive(tensor((4,), (1,), 4, word="module"), more=four)
    yield "gradients", archive(tensor((4,), (1,), 4, grad=True), more=four)
    yield (
        "a count that is none",
        archive(tensor((1,), (1,), True), more={"archive/data/0": b"\0" * 4}),
    )
    yield "seventeen dimensions", archive(tensor((1,) * 17, (1,) * 17, 4), more=four)
    yield "expanded tensor", archive(tensor((10**6, 10**6), (0, 0), 4), more=four)
    yield "negative sizes", archive(tensor((-4, -1), (1, 1), 4), more=four)
    yield "no whole number", archive(tensor((True,), (1,), 4), more=four)
    yield "deflated", archive(pickle.dumps({"a": "\0" * 10**8}, 2), zipfile.ZIP_DEFLATED)
    yield "bzip2", archive(pickle.dumps({"a": "\0" * 10**8}, 2), zipfile.ZIP_BZIP2)
    yield "billion laughs", archive(pickle.dumps({"metadata": laughs(12)}, 2))
    yield "deep", archive(deep(100_000))
    yield "cycle", archive(b"\x80\x02]q\x00h\x00a.")
    yield "huge memo", archive(b"\x80\x02]r\xff\xff\xff\x7f.")
    yield "huge text", archive(b"\x80\x02X\xff\xff\xff\x7f.")
    yield "huge number", archive(b"\x80\x02\x8b\xff\xff\xff\x7f.")
    whole = archive(pickle.dumps({"a": 1}, 2), more=four)
    yield "a name twice", _renamed(whole, b"archive/version", b"archive/data.pk")
    doubled = archive(pickle.dumps({"a": 1}, 2), more={"archive/data.pkL": b"x"})
    yield "a name twice but for case", doubled
    yield "outside the folder", archive(pickle.dumps({"a": 1}, 2), more={"../evil": b"x"})
    plain = pickle.dumps({"a": 1}, 2)
    yield "deflated to its own size", same_size()
    yield "encrypted", _encrypted(whole, whole.rindex(b"PK\x01\x02"))
    yield "a size that is not its own", shorter(archive(plain, more={"archive/x": b"12345678"}))
    yield "two entries of the same bytes", overlapping(archive(plain, more={"archive/x": b"1"}))
    yield "a last entry larger than the file", _larger(whole, whole.rindex(b"PK\x01\x02"))
    yield "two pickles", archive(plain, more={"archive/x/data.pkl": plain})
    yield "a folder in a folder", archive(plain, root="a/b")
    yield "two folders", archive(pickle.dumps({"a": 1}, 2), more={"b/data.pkl": b"x"})
    yield "a larger entry than the file", _larger(whole, whole.index(b"PK\x01\x02"))


def same_size() -> bytes:
    """A checkpoint with one deflated entry whose compressed size equals its size."""
    for zeros in range(60):
        buffer, content = io.BytesIO(), bytes(range(60)) + bytes(zeros)
        with zipfile.ZipFile(buffer, "w") as out:
            out.writestr("archive/data.pkl", pickle.dumps({"a": 1}, 2))
            out.writestr("archive/x", content, zipfile.ZIP_DEFLATED)
            if out.getinfo("archive/x").compress_size != len(content):
                continue
        return buffer.getvalue()
    raise AssertionError("no such size")


def shorter(raw: bytes) -> bytes:
    """Reduce the size of the entry `x` in the directory by one byte."""
    at = raw.rindex(b"archive/x") - 46
    return raw[: at + 24] + struct.pack("<I", 7) + raw[at + 28 :]


def overlapping(raw: bytes) -> bytes:
    """Two entries of the directory begin at the same place."""
    at = raw.rindex(b"PK\x01\x02") + 42  # the offset of the last entry
    other = raw.rindex(b"archive/x") - 4
    return raw[:at] + raw[other : other + 4] + raw[at + 4 :]


def _renamed(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Give entries equal names in the directory: `.pkl` and `.pk` are truncated alike."""
    return raw.replace(old, new).replace(b"archive/data.pkl", b"archive/data.pk\0")


def _larger(raw: bytes, at: int) -> bytes:
    return raw[: at + 20] + struct.pack("<II", 1 << 30, 1 << 30) + raw[at + 28 :]


def _encrypted(raw: bytes, at: int) -> bytes:
    return raw[: at + 8] + b"\1" + raw[at + 9 :]
