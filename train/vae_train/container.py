"""The zip and the pickle of a checkpoint, read without torch before torch reads them.

`torch.load(weights_only=True)` runs no code, but it makes a `bytearray` or a tensor of any size
that a pickle asks for, and trusts the number of elements that a storage claims. Here a pickle may
hold plain values and tensors that lie within their bytes, and nothing else.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from typing import Any

from vae_runtime.errors import InputError

_MAX_ENTRIES = 100_000
_MAX_PICKLE = 256 << 20
_MAX_VALUES = 5_000_000  # plain values when every reference is followed, as a writer of JSON would
_DEEPEST = 100
_WORDS = """
    PROTO STOP MARK GLOBAL REDUCE BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1
    BINFLOAT BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT
    SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
_OPCODES = frozenset(_WORDS.split())
_ITEM_SIZES = {
    "FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2,
    "LongStorage": 8, "IntStorage": 4, "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1,
    "BoolStorage": 1,
}  # fmt: skip
# What zipfile, pickletools and pickle raise on bytes that some other program wrote.
_REFUSED = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, struct.error,
    OverflowError, NotImplementedError, OSError, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


def check_container(raw: bytes, where: object) -> None:
    """Check the bytes of a checkpoint.

    Args:
        raw: the whole file, its digest already checked.
        where: begins the error message.

    Raises:
        InputError: compressed, overlapping or doubly named entries; a pickle that names anything
            but tensors and plain values, or claims more than the file holds.
    """
    try:
        sizes, program = _entries(raw)
        _check_opcodes(program)
        _check_values(_Reader(program, sizes).load())
    except _REFUSED as error:
        raise InputError(
            f"{where}: not a checkpoint that vae-train wrote: its zip or pickle holds what none has"
        ) from error


def _entries(raw: bytes) -> tuple[dict[str, int], bytes]:
    """The length of each tensor's bytes by its key, and the pickle."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = sorted(archive.infolist(), key=lambda m: m.header_offset)
        if len(members) > _MAX_ENTRIES:
            raise ValueError("too many entries")
        names = [m.filename for m in members]
        # torch matches names without regard to case in places; nothing of ours differs by case.
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("a name twice")
        at = 0
        for member in members:
            stored = member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1
            if not stored or member.file_size != member.compress_size or member.header_offset < at:
                raise ValueError("an entry that is not stored, or overlaps")
            at = member.header_offset + 30 + len(member.filename) + member.file_size
        if at > len(raw):
            raise ValueError("more bytes than the file has")
        pickles = [m for m in members if m.filename.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE:
            raise ValueError("no pickle, or too large")
        root = pickles[0].filename.removesuffix("data.pkl")
        prefix = f"{root}data/"
        if "/" in root[:-1] or not all(name.startswith(root) for name in names):
            raise ValueError("an entry outside the archive's folder")
        sizes = {n.removeprefix(prefix): m.file_size for n, m in zip(names, members, strict=True)}
        return sizes, archive.read(pickles[0])


def _check_opcodes(program: bytes) -> None:
    """Only the opcodes that plain values and tensors need, and places in the memo in order."""
    places = 0
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in _OPCODES:
            raise ValueError(f"opcode {opcode.name}")
        if opcode.name.endswith("BINPUT"):
            # Python's own reader makes room up to the place that is named.
            if argument not in range(places + 1):
                raise ValueError("a memo out of order")
            places += 1


class _Storage:
    """A class of storages, by the size of its elements."""

    def __init__(self, item: int) -> None:
        self.item = item


class _Tensor:
    """Stands for a tensor."""


class _Reader(pickle.Unpickler):
    """Unpickles plain values; storages and tensors become stand-ins, their sizes checked."""

    def __init__(self, program: bytes, sizes: dict[str, int]) -> None:
        super().__init__(io.BytesIO(program))
        self._sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        """The three kinds of names that a checkpoint holds."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _no_hooks
        if module == "torch" and name in _ITEM_SIZES:
            return _Storage(_ITEM_SIZES[name])
        raise ValueError(f"the name {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage: its number of elements, which must be what the zip holds of it."""
        word, kind, key, _, count = pid
        if word != "storage" or type(count) is not int:
            raise ValueError("a storage of another form")
        if self._sizes[key] != count * kind.item:
            raise ValueError("a storage of another size than its bytes")
        return range(count)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> _Tensor:
    """Check that a tensor lies within its storage, each element once."""
    numbers = (offset, *size, *stride)
    plain = all(type(n) is int and n >= 0 for n in numbers)
    if not plain or not isinstance(storage, range) or len(size) > 16:
        raise ValueError("a tensor of another form")
    if more != (False, OrderedDict()):
        raise ValueError("a tensor with hooks or gradients")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= len(storage) or count > len(storage)):
        raise ValueError("a tensor outside its storage")
    return _Tensor()


def _no_hooks(*arguments: Any) -> Any:
    if arguments:
        raise ValueError("a dictionary made of something")
    return OrderedDict()


def _check_values(data: Any) -> None:
    """Not too many values and not too deep, each reference counted as often as it is met."""
    level, total = [data], 0
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple)):
                below += value
            if total + len(below) > _MAX_VALUES:
                raise ValueError("too many values")
        total += len(below)
        if not below:
            return
        level = below
    raise ValueError("too deep")
