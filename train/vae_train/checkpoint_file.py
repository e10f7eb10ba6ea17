"""Read and write files of tensors and plain values; reading is safe for untrusted files.

`torch.save` writes the files. `torch.load(weights_only=True)` runs no code, but it does not detect
flipped bits, and a small hostile file can make it allocate any amount of memory. The checks in this
module reject what torch does not:

- a sha256 (stored in the zip comment) that is wrong or missing
- compressed or duplicate entries, and entries whose total size exceeds that of the file
- calls to `bytearray`, `torch.Tensor` and other functions that torch allows, and repeated calls
  that each copy the same large argument
- tensors larger than the storage that they are views of
- values nested in a cycle, too deeply, or too often to be written as JSON
"""

from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vae_runtime.bundle.checksums import verify_zip, zip_with_checksum
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.files.atomic import write_atomic
from vae_runtime.files.reading import read_bytes

_ZIP_START = b"PK\x03\x04"
_MAX_ENTRIES = 100_000
_MAX_PICKLE_BYTES = 16 << 20  # tensors are stored beside it
_MAX_VALUES = 5_000_000  # counts a value once per reference, as a JSON writer would
_MAX_DEPTH = 100
_MAX_DIMENSIONS = 16
_OPCODES = {
    "PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "EMPTY_TUPLE", "TUPLE",
    "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM",
    "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET",
}  # fmt: skip
_STORAGES = {
    "FloatStorage", "DoubleStorage", "HalfStorage", "BFloat16Storage", "LongStorage", "IntStorage",
    "ShortStorage", "CharStorage", "ByteStorage", "BoolStorage",
}  # fmt: skip
_KEYS = {"BINUNICODE", "BININT", "BININT1", "BININT2"}  # opcodes that make a dictionary's keys
# Raised by zipfile, pickletools and torch for a malformed file, and by readers for unexpected
# content.
MALFORMED = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, OSError,
    OverflowError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError,
)  # fmt: skip


def write_checkpoint_file(content: dict[str, Any], path: Path) -> str:
    """Write tensors and plain values atomically.

    Returns:
        The sha256 of the file.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    raw = zip_with_checksum(buffer.getvalue())
    write_atomic(path, raw)
    return hashlib.sha256(raw).hexdigest()


def read_checkpoint_file(path: Path) -> tuple[Any, str]:
    """Read a file written by `write_checkpoint_file`; all tensors are on the CPU.

    Returns:
        The content, and the sha256 of the file.

    Raises:
        NotFound: there is no such file.
        IntegrityError: the checksum is missing or wrong.
        InputError: the file has a different format, or is malformed or hostile.
    """
    raw = read_bytes(path, "Train a checkpoint with vae-train.")
    if not verify_zip(raw, str(path)):
        if not _ZIP_START.startswith(raw[: len(_ZIP_START)]):
            raise InputError(f"{path}: not a checkpoint: it is not a zip file")
        raise IntegrityError(
            f"{path}: has no sha256: truncated, or not written by vae-train. "
            "For your own model, use vae-export --model."
        )
    return load_untrusted(raw, path), hashlib.sha256(raw).hexdigest()


def load_untrusted(raw: bytes, where: object) -> Any:
    """Load tensors and plain values from the bytes of a file that may be hostile.

    Args:
        raw: the content of the file.
        where: the name of the file, for the error message.

    Raises:
        InputError: the bytes are malformed or hostile.
    """
    try:
        content = torch.load(_checked_copy(raw), map_location="cpu", weights_only=True)
        _check_values(content)
    except MALFORMED as error:
        raise InputError(f"{where}: not a checkpoint that vae-train wrote") from error
    return content


def _checked_copy(raw: bytes) -> io.BytesIO:
    """Check the zip and its pickle, and write the entries to a new zip.

    torch reads only the copy. It therefore cannot interpret the directory of a crafted zip
    differently than these checks do.
    """
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            raise ValueError("too many entries")
        # In places, torch ignores case in names.
        if len({entry.filename.lower() for entry in entries}) < len(entries):
            raise ValueError("duplicate entries")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("compressed entries")
        if sum(entry.file_size for entry in entries) > len(raw):
            raise ValueError("entries larger than the file")
        root = entries[0].filename.split("/")[0]
        _check_pickle(archive.read(f"{root}/data.pkl"))
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as out:
            for entry in entries:
                out.writestr(entry.filename, archive.read(entry))
    copy.seek(0)
    return copy


def _check_pickle(program: bytes) -> None:
    """Reject all opcodes but those for tensors and plain values, and calls that copy arguments."""
    if len(program) > _MAX_PICKLE_BYTES:
        raise ValueError("the pickle is too large")
    memo_size = 0
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name not in _OPCODES:
            raise ValueError(f"opcode {opcode.name}")
        if opcode.name.endswith("BINPUT"):
            # Python's unpickler allocates a memo as large as its largest index.
            if argument not in range(memo_size + 1):
                raise ValueError("memo indices are not in order")
            memo_size += 1
    _check_keys(program)
    _PickleChecker(io.BytesIO(program)).load()


def _check_keys(program: bytes) -> None:
    """Reject dictionary keys but text and 32-bit integers.

    A dictionary takes quadratic time if the hashes of its keys are equal, which the writer of a
    file can arrange for large integers, floats and tuples. This follows the kinds of the values on
    the unpickler's stack without making the values.
    """
    stack: list[str] = []
    memo: list[str] = []
    for opcode, argument, _ in pickletools.genops(program):
        name, taken = opcode.name, len(opcode.stack_before)
        if pickletools.stackslice in opcode.stack_before:
            mark = len(stack) - 1 - stack[::-1].index("MARK")
            taken = taken - 2 + len(stack) - mark  # the mark, and the slice above it
        keys = {"SETITEM": stack[-2:-1], "SETITEMS": stack[len(stack) - taken + 2 :: 2]}
        if not _KEYS.issuperset(keys.get(name, ())):
            raise ValueError("a dictionary key that is neither text nor a small integer")
        if name.endswith("BINPUT"):
            memo.append(stack[-1])
            continue
        del stack[len(stack) - taken :]
        pushed = memo[int(argument or 0)] if name.endswith("BINGET") else name
        stack += [pushed] * len(opcode.stack_after)


class _PickleChecker(pickle.Unpickler):
    """Unpickler that replaces torch functions with stubs, which only check their arguments."""

    def find_class(self, module: str, name: str) -> Any:
        """Resolve only the names that `torch.save` writes for tensors."""
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _check_tensor_arguments
        if (module, name) == ("collections", "OrderedDict"):
            return _empty_hooks
        if module == "torch" and name in _STORAGES:
            return name
        raise ValueError(f"the name {module}.{name}")

    def persistent_load(self, pid: Any) -> None:
        """Skip storages: torch itself compares their sizes with those of the zip entries."""


def _check_tensor_arguments(
    storage: object, offset: object, size: Any, stride: Any, requires_grad: object, hooks: object
) -> None:
    if len(size) > _MAX_DIMENSIONS or len(stride) > _MAX_DIMENSIONS:
        raise ValueError("a tensor of too many dimensions")


def _empty_hooks() -> OrderedDict[str, Any]:
    return OrderedDict()  # takes no arguments, because an OrderedDict would copy them


def _check_values(content: Any) -> None:
    """Limit the number of values and their nesting; require tensors to fit in their storage."""
    level, total = [content], 0
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, Tensor):
                _check_tensor(value)
            elif isinstance(value, dict):
                below += [*value.keys(), *value.values()]
            elif isinstance(value, (list, tuple)):
                below += value
            if total + len(below) > _MAX_VALUES:
                raise ValueError("too many values")
        total += len(below)
        if not below:
            return
        level = below
    raise ValueError("values nested too deeply")


def _check_tensor(tensor: Tensor) -> None:
    if tensor.requires_grad or tensor.nbytes > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor with gradients, or larger than its storage")
