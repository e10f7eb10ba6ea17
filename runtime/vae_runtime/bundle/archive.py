"""A bundle as one stored `.zip`: written the same each time, read without trusting a header.

The zip's comment is a sha256 over all bytes between the files' contents (the manifest has those of
the contents), so that a flipped bit anywhere is found. A zip without a comment, as other programs
make it, is read too.
"""

from __future__ import annotations

import functools
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, IntegrityError, NotFound
from ..files.reading import read_bytes
from .checksums import COMMENT_SIZE, verify_zip, zip_with_checksum

Reader = Callable[[str, int], bytes]

MAX_FILE = 2 << 30  # protobuf's own limit for one message
_MAX_ZIP = 8 << 30
_MAX_FILES = 1000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip: the same bundle, the same bytes
_END = 22  # bytes of a zip's last record without its comment
_START = b"PK\x03\x04"
# What is often given in a bundle's place.
_OTHERS = {
    ".pt": "a checkpoint, not a bundle. Run vae-export --ckpt on it first.",
    ".onnx": "one graph, not a bundle. Give the bundle's folder; in Python, vae.Decoder reads it.",
}


def pack(content: dict[str, bytes]) -> bytes:
    """A stored, uncompressed zip; the bytes depend on names and content alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in content.items():
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # else it is that of the machine
            archive.writestr(info, raw)
    raw = buffer.getvalue()
    return zip_with_checksum(raw, _contents(raw, archive.infolist()))


def open_zip(path: Path) -> tuple[Reader, list[str]]:
    """A way to read the files of a zip, and their names.

    Raises:
        InputError: no zip, or one with compressed, encrypted, nested or doubly named files.
        IntegrityError: a zip that is cut off or damaged.
        FileError: it cannot be read.
    """
    raw = read_bytes(path, limit=_MAX_ZIP)
    if path.suffix in _OTHERS:
        raise InputError(f"{path}: {_OTHERS[path.suffix]}")
    if not raw.startswith(_START):  # zipfile would skip what stands in front
        raise InputError(f"{path}: not a zip and not a folder, so not a bundle")
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        _check_frame(raw, archive, path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
        raise IntegrityError(f"{path}: cut off or damaged. Copy the file again.") from error
    members = archive.infolist()
    if len({m.filename for m in members}) < len(members):
        raise InputError(f"{path}: two files of the same name in the zip")
    if len(members) > _MAX_FILES:
        raise InputError(f"{path}: over {_MAX_FILES} files in the zip")

    read = functools.partial(_read, archive, path)
    return read, [m.filename for m in members]


def _read(archive: zipfile.ZipFile, path: Path, name: str, limit: int) -> bytes:
    try:
        member = archive.getinfo(name)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise InputError(f"{path}: {name} is compressed; a bundle's zip is stored")
        with archive.open(member) as file:
            return file.read(min(limit, MAX_FILE))
    except InputError:
        raise
    except KeyError as error:
        raise NotFound(f"{path}: {name} is missing from the bundle") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise IntegrityError(f"{path}: {name} is damaged. Copy the file again.") from error


def _check_frame(raw: bytes, archive: zipfile.ZipFile, where: Path) -> None:
    """Raise ValueError where the bytes between the contents are not those that were written."""
    comment = archive.comment
    # zipfile searches for the last record; nothing may stand behind it.
    if raw[len(raw) - len(comment) - _END :][:4] != b"PK\x05\x06":
        raise ValueError("bytes behind the end")
    contents = _contents(raw, archive.infolist())
    if comment and not (len(comment) == COMMENT_SIZE and verify_zip(raw, str(where), contents)):
        raise ValueError("the comment is not a checksum")


def _contents(raw: bytes, members: list[zipfile.ZipInfo]) -> list[tuple[int, int]]:
    """Start and end of the content of each file, in the order of the directory.

    Raises:
        ValueError: they overlap, or are in another order.
    """
    spans, at = [], 0
    for member in members:
        name, extra = struct.unpack_from("<HH", raw, member.header_offset + 26)
        start = member.header_offset + 30 + name + extra
        if not at <= start <= len(raw) - member.compress_size:
            raise ValueError("files overlap")
        at = start + member.compress_size
        spans.append((start, at))
    return spans
