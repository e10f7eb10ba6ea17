"""Read and write a bundle as an uncompressed `.zip`.

Only one layout is accepted: the files one after another, the directory in the same order, and a
comment that is empty or holds the checksum of everything except the files' contents. This ensures
that a checksum covers every byte and that all programs extract the same files.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, IntegrityError, LimitError, NotFound
from ..files.reading import read_bytes, read_part
from .checksums import COMMENT_SIZE, verify_zip, zip_with_checksum

Reader = Callable[[str, int], bytes]  # takes a file's name and the maximum bytes to return

_MAX_ZIP = 4 << 30  # the limit of the format without its 64-bit extension
_MAX_FILES = 1000
_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same bundle gives the same bytes
# A local header, a directory entry, and the end record (APPNOTE 4.3.7, 4.3.12 and 4.3.16).
_LOCAL, _LOCAL_MARK = struct.Struct("<4s5H3L2H"), b"PK\x03\x04"
_ENTRY, _ENTRY_MARK = struct.Struct("<4s6H3L5H2L"), b"PK\x01\x02"
_END, _END_MARK = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
# Types of files that users often pass instead of a bundle.
_OTHERS = {
    ".pt": "a checkpoint, not a bundle. Run vae-export --ckpt on it first.",
    ".onnx": "one graph, not a bundle. Pass the bundle's folder; in Python, use vae.Decoder.",
}


class _LayoutError(Exception):
    """The zip does not have the layout of a bundle."""


@dataclass(frozen=True)
class _Member:
    name: str
    stored: bool  # neither compressed nor encrypted
    header: int  # offset of the local header
    start: int  # of the content
    end: int
    size: int  # uncompressed


def pack(files: dict[str, bytes]) -> bytes:
    """Return an uncompressed zip whose bytes depend only on the files' names and contents.

    Raises:
        LimitError: the zip would be larger than 4 GiB.
    """
    buffer = io.BytesIO()
    try:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=False) as archive:
            for name, raw in files.items():
                info = zipfile.ZipInfo(name, _DATE)
                info.create_system = 3  # Unix; the default depends on this machine
                archive.writestr(info, raw)
    except zipfile.LargeZipFile as error:
        raise LimitError("a zip has at most 4 GB. Write the bundle as a folder.") from error
    raw = buffer.getvalue()
    return zip_with_checksum(raw, _contents(_read_directory(raw)[0]))


def open_zip(path: Path) -> tuple[Reader, list[str]]:
    """Open a zip; return two things: a function that reads one file, and the names of all files.

    Raises:
        InputError: not a zip, or one with compressed files, encrypted files or duplicate names.
        IntegrityError: the zip is truncated or damaged, or does not have a bundle's layout.
        FileError: the zip cannot be read.
        LimitError: the zip is larger than 4 GiB.
    """
    if path.suffix in _OTHERS:
        raise InputError(f"{path}: {_OTHERS[path.suffix]}")
    _check_ends(path)
    raw = read_bytes(path, max_bytes=_MAX_ZIP)
    try:
        members, directory = _read_directory(raw)
    except (_LayoutError, struct.error) as error:
        raise _damaged(path) from error
    # There are no gaps: each file, and then the directory, begins where the previous file ends.
    ends = [0, *(member.end for member in members)]
    laid_out = [*(member.header for member in members), directory] == ends
    if laid_out:  # check this first, so that a flipped bit is always reported as damage
        verify_zip(raw, str(path), _contents(members))
    _check_members(members, path, laid_out=laid_out)
    spans = {member.name: (member.start, member.end) for member in members}

    def read(name: str, limit: int) -> bytes:
        if name not in spans:
            raise NotFound(f"{path}: {name} is missing from the bundle")
        start, end = spans[name]
        return raw[start : min(end, start + limit)]

    return read, list(spans)


def _check_ends(path: Path) -> None:
    """Refuse what is not a zip by its first and last bytes, before reading gigabytes."""
    first = read_part(path, 0, len(_LOCAL_MARK))
    if first != _LOCAL_MARK:
        raise InputError(f"{path}: not a zip and not a folder, so not a bundle")
    last = read_part(path, -(_END.size + COMMENT_SIZE), _END.size + COMMENT_SIZE)
    if _END_MARK not in (last[-_END.size :][:4], last[:4]):
        raise _damaged(path)


def _contents(members: list[_Member]) -> list[tuple[int, int]]:
    return [(member.start, member.end) for member in members]


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(f"{path}: truncated or damaged. Copy the file again.")


def _check_members(members: list[_Member], path: Path, *, laid_out: bool) -> None:
    for member in members:
        if not member.stored or (laid_out and member.size != member.end - member.start):
            raise InputError(f"{path}: {member.name} is compressed, expected stored files")
    if not laid_out:
        raise _damaged(path)
    if len(members) > _MAX_FILES:
        raise InputError(f"{path}: more than {_MAX_FILES} files in the zip")
    if len({member.name for member in members}) < len(members):
        raise InputError(f"{path}: two files of the same name in the zip")


def _read_directory(raw: bytes) -> tuple[list[_Member], int]:
    """Read the directory at the end of a zip; return the members and the directory's offset.

    Raises:
        _LayoutError, struct.error: there is no directory, or it contradicts the rest of the file.
    """
    comment = COMMENT_SIZE if raw[-COMMENT_SIZE:].startswith(b"sha256:") else 0
    end = len(raw) - comment - _END.size
    mark, disk, first, here, count, size, at, length = _END.unpack_from(raw, max(end, 0))
    if mark != _END_MARK or length != comment or at + size != end:
        raise _LayoutError("no directory at the end")
    if disk or first or here != count:
        raise _LayoutError("one of several parts")
    directory, members = at, []
    for _ in range(count):
        entry = _ENTRY.unpack_from(raw, at)
        flags, method, packed, unpacked = entry[3], entry[4], entry[8], entry[9]
        name_size, extra_size, note_size, header = entry[10], entry[11], entry[12], entry[16]
        name = raw[at + _ENTRY.size : at + _ENTRY.size + name_size]
        local = _LOCAL.unpack_from(raw, header)
        name_at = header + _LOCAL.size
        if entry[0] != _ENTRY_MARK or local[0] != _LOCAL_MARK:
            raise _LayoutError("no header where one should be")
        if raw[name_at : name_at + local[9]] != name:
            raise _LayoutError("a file with two names")
        start = name_at + local[9] + local[10]
        stored = method == 0 and not flags & 1
        members.append(
            _Member(name.decode(errors="replace"), stored, header, start, start + packed, unpacked)
        )
        at += _ENTRY.size + name_size + extra_size + note_size
    if at != end:
        raise _LayoutError("the directory has another length than the end record states")
    return members, directory
