"""Folders and zips of the corpus: rules F and Z."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.bundles import Files
from tests.conformance.corpus import GOOD, Case, file_case, folder_case, zip_case
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

DATA = Path(__file__).parents[1] / "data"


def all_cases() -> Iterator[Case]:
    """Rules F and Z."""
    yield from folder_cases()
    yield from zip_cases()
    yield from layout_cases()
    yield from freedom_cases()


def without(name: str) -> Files:
    """Return the files except one."""
    return {k: v for k, v in GOOD.items() if k != name}


def folder_cases() -> Iterator[Case]:
    """Files that a bundle has or lacks."""
    yield file_case("F1", "an empty manifest's name", "InputError", without(NAME))
    yield folder_case("F1", "folder", "InputError", files=without(NAME))
    yield folder_case("F1", "an empty folder", "InputError", files={})
    moved = without(NAME) | {f"sub/{NAME}": GOOD[NAME]}
    yield file_case("F1", "a manifest below", "InputError", moved)
    for name in without(NAME):
        yield file_case("F2", f"{name}", "NotFound", without(name))
    yield folder_case("F2", "folder", "NotFound", files=without("golden.npz"))
    for name in (
        "readme.txt", "README.md.bak", "readme.md", "license", "LICENSE.txt", "sub/x", "../evil",
        "/evil", ".hidden", "sub/", "sub/README.md", NAME.upper(), " ",
    ):  # fmt: skip
        yield file_case("F3", f"{name} in a zip", "InputError", GOOD | {name: b""})
    yield folder_case("F3", "folder", "InputError", files=GOOD | {"x": b""})
    yield folder_case(
        "F3", "folder in a folder", "InputError", lambda p: (p / "more").mkdir(), native=True
    )
    people = {"README.md": b"# A model", "LICENSE": b""}
    yield file_case("F4", "zip", "accept", GOOD | people)
    yield folder_case("F4", "folder", "accept", files=GOOD | people)
    hidden = {".DS_Store": b"x", ".gitattributes": b""}
    yield folder_case("F5", "folder", "accept", files=GOOD | hidden)

    def link(path: Path) -> None:
        (path / "golden.npz").rename(path / ".golden")
        (path / "golden.npz").symlink_to(path / ".golden")

    def folder(path: Path) -> None:
        (path / "golden.npz").unlink()
        (path / "golden.npz").mkdir()

    def pipe(path: Path) -> None:
        (path / "golden.npz").unlink()
        os.mkfifo(path / "golden.npz")

    for name, change in {"link": link, "folder": folder, "pipe": pipe}.items():
        yield folder_case("F6", f"a {name}", "InputError", change, native=True)
    # White space after the JSON is allowed and takes no time to read.
    long = manifest_with_checksum(GOOD[NAME] + b" " * (64 << 20))
    yield file_case("F7", "over 64 MiB", "LimitError", GOOD | {NAME: long})


def plain(files: Files = GOOD, method: int = zipfile.ZIP_STORED, *, note: bytes = b"") -> bytes:
    """Return a zip as other programs write it, with the current time and without a comment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, raw in files.items():
            info = zipfile.ZipInfo(name, (2024, 2, 29, 12, 34, 56))
            info.compress_type, info.comment = method, note
            archive.writestr(info, raw)
    return buffer.getvalue()


def zip_cases() -> Iterator[Case]:
    """Files in a zip."""
    whole = pack(GOOD)
    for name, raw in {
        "bytes before it": b"\0" * 10 + whole, "a script before it": b"#!/bin/sh\n" + plain(),
        "nothing": b"", "text": b"hello", "only an end record": b"PK\5\6" + bytes(18),
    }.items():  # fmt: skip
        yield zip_case("Z1", name, "InputError", raw)
    yield zip_case("Z2", "deflated", "InputError", plain(method=zipfile.ZIP_DEFLATED))
    yield zip_case("Z2", "bzip2", "InputError", plain(method=zipfile.ZIP_BZIP2))
    yield zip_case("Z2", "encrypted", "InputError", edited(plain(), flags=1))
    yield zip_case("Z2", "said to be deflated", "InputError", edited(plain(), method=8))
    yield zip_case("Z2", "two sizes", "InputError", edited(plain(), size=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns about the duplicate name
        buffer = io.BytesIO(plain())
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr(NAME, GOOD[NAME])
    yield zip_case("Z3", "a name twice", "InputError", buffer.getvalue())
    many = {f"{i}": b"" for i in range(1001 - len(GOOD))}
    yield file_case("Z3", "1,001 files", "InputError", GOOD | many)


def layout_cases() -> Iterator[Case]:
    """The layout of a zip."""
    whole = pack(GOOD)
    for name, raw in {
        "cut off": whole[:-30], "cut in half": whole[: len(whole) // 2], "one more": whole + b"\0",
        "one more, plain": plain() + b"\0", "PK at the end": plain() + b"PK\3\4",
        "a second end record": plain() + b"PK\5\6" + bytes(18),
        "only a local header": plain()[:60],
        "a wrong count": edited(plain(), count=2),
        "another count in this part": edited(plain(), here=2),
        "several parts": edited(plain(), disk=1), "begun in another part": edited(plain(), first=1),
        "another mark": edited(plain(), mark=0x06054B51),
        "a comment that is not there": edited(plain(), length=5),
        "another mark of an entry": edited(plain(), entry_mark=0x02014B51),
        "another mark of a local header": damaged_mark(plain()),
        "a longer directory": edited(plain(), directory_size=10**6),
        "a directory elsewhere": edited(plain(), directory=0),
        "a 64-bit end record": zip64(plain()),
    }.items():  # fmt: skip
        yield zip_case("Z4", name, "IntegrityError", raw)
    first = len(next(iter(GOOD)))
    end = 30 + first + len(GOOD[NAME])
    for name, raw in {
        "bytes between files": inserted(plain(), end, b"\0"),
        "bytes before the directory": inserted(plain(), directory_of(plain()), b"hidden"),
        "another order": reordered(plain()), "data descriptors": streamed(),
        "overlapping files": edited(plain(), header=0, entry=1),
        "a content outside": edited(plain(), packed=1 << 30, size=1 << 30),
        "a compressed size outside": edited(plain(), packed=1 << 30),
    }.items():  # fmt: skip
        yield zip_case("Z5", name, "IntegrityError", raw)
    raw = bytearray(plain())
    raw[30] ^= 1  # the first letter of a name in a local header
    yield zip_case("Z6", "two names", "IntegrityError", bytes(raw))
    for name, raw in {
        "a wrong digit": whole[:-1] + (b"0" if whole[-1:] != b"0" else b"1"),
        "a digit in capitals": whole[:-64] + whole[-64:].upper(),
        "no digit": whole[:-1] + b"g",
        "a header changed after it": whole[:10] + bytes([whole[10] ^ 1]) + whole[11:],
        "another zip's": whole[:-64] + pack({"a": b"x"})[-64:],
        "text": commented(plain(), b"made by hand"),
        "a short checksum": commented(plain(), b"sha256:" + b"0" * 63),
        "text after it": commented(plain(), b"sha256:" + b"0" * 64 + b"\n"),
        "sha256 alone": commented(plain(), b"sha256:"),
    }.items():
        yield zip_case("Z7", name, "IntegrityError", bytes(raw))


def freedom_cases() -> Iterator[Case]:
    """Zips of other programs, and good bundles."""
    for path in sorted(DATA.glob("*.zip")):
        yield Case(
            f"M6: {path.stem}", "M6", "accept", lambda p, s=path: p.write_bytes(s.read_bytes())
        )  # type: ignore[misc]
    yield folder_case("M6", "a folder", "accept")
    yield zip_case("Z8", "no comment", "accept", plain())
    yield zip_case("Z9", "comments of entries", "accept", plain(note=b"sha256:a note"))
    yield zip_case("Z9", "an extra field", "accept", extra(plain()))
    yield zip_case("Z9", "other versions and systems", "accept", edited(plain(), made=0x0A3F))
    yield zip_case("Z10", "a wrong CRC-32", "accept", edited(plain(), crc=0))
    raw = bytearray(plain())
    raw[14:26] = bytes(12)
    yield zip_case("Z10", "no sizes in a local header", "accept", bytes(raw))
    turned = dict(reversed(GOOD.items()))
    yield file_case("Z11", "the manifest last", "accept", turned)
    yield zip_case("Z11", "the manifest last, plain", "accept", plain(turned))


_ENTRY_FIELDS = {"entry_mark": (0, "I"), "made": (4, "H"), "flags": (8, "H"), "method": (10, "H"),
                 "crc": (16, "I"), "packed": (20, "I"), "size": (24, "I"),
                 "header": (42, "I")}  # fmt: skip
_END_FIELDS = {"mark": (0, "I"), "disk": (4, "H"), "first": (6, "H"), "here": (8, "H"),
               "count": (10, "H"), "directory_size": (12, "I"), "directory": (16, "I"),
               "length": (20, "H")}  # fmt: skip


def edited(raw: bytes, *, entry: int = 0, **fields: int) -> bytes:
    """Change numbers in a directory entry or in the end record."""
    changed, at = bytearray(raw), directory_of(raw)
    for _ in range(entry):
        at += 46 + sum(struct.unpack_from("<3H", raw, at + 28))
    for name, number in fields.items():
        place, table = (
            (at, _ENTRY_FIELDS) if name in _ENTRY_FIELDS else (len(raw) - 22, _END_FIELDS)
        )
        offset, kind = table[name]
        struct.pack_into(f"<{kind}", changed, place + offset, number)
    return bytes(changed)


def damaged_mark(raw: bytes) -> bytes:
    """Change the signature of the second local header; the first one identifies the zip."""
    at = raw.index(b"PK\3\4", 4)
    return raw[:at] + b"PK\3\5" + raw[at + 4 :]


def directory_of(raw: bytes) -> int:
    """Return the offset of the directory of a zip without a comment."""
    (start,) = struct.unpack_from("<I", raw, len(raw) - 6)
    return int(start)


def commented(raw: bytes, comment: bytes) -> bytes:
    """Replace the comment of a zip."""
    return raw[:-2] + struct.pack("<H", len(comment)) + comment


def inserted(raw: bytes, where: int, more: bytes) -> bytes:
    """Insert bytes between two files or before the directory, and correct all offsets."""
    directory = directory_of(raw)
    changed = bytearray(edited(raw, directory=directory + len(more)))
    at = directory
    while changed[at : at + 4] == b"PK\1\2":
        (header,) = struct.unpack_from("<I", changed, at + 42)
        struct.pack_into("<I", changed, at + 42, header + len(more) * (header >= where))
        at += 46 + sum(struct.unpack_from("<3H", changed, at + 28))
    return bytes(changed[:where] + more + changed[where:])


def entries(raw: bytes) -> list[bytes]:
    """Return all directory entries."""
    found, at = [], directory_of(raw)
    while raw[at : at + 4] == b"PK\1\2":
        size = 46 + sum(struct.unpack_from("<3H", raw, at + 28))
        found.append(raw[at : at + size])
        at += size
    return found


def reordered(raw: bytes) -> bytes:
    """Reverse the order of the directory entries in a zip."""
    return raw[: directory_of(raw)] + b"".join(reversed(entries(raw))) + raw[-22:]


def streamed() -> bytes:
    """Return a zip as written to a pipe, with sizes after the contents."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        for name, content in GOOD.items():
            archive.writestr(name, content)
    return pipe.getvalue()


def extra(raw: bytes) -> bytes:
    """Add the time to the first local header, as Info-ZIP does."""
    (name,) = struct.unpack_from("<H", raw, 26)
    field = b"UT\5\0\3\0\0\0\0"
    changed = bytearray(inserted(raw, 30 + name, field))
    struct.pack_into("<H", changed, 28, len(field))
    return bytes(changed)


def zip64(raw: bytes) -> bytes:
    """Insert the end record of the 64-bit extension before the plain one."""
    count = len(entries(raw))
    directory, end = directory_of(raw), len(raw) - 22
    record = struct.pack(
        "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, end - directory, directory
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    return raw[:end] + record + locator + raw[end:]
