"""Limits and forms of graphs and zips that no other test reaches."""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.security.build import (
    attribute,
    field,
    graph,
    model,
    node,
    reals,
    value,
    varint,
)
from vae_runtime.bundle import archive
from vae_runtime.bundle.archive import open_zip, pack
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.graph_checks import check_graph, nodes
from vae_runtime.graph_checks import model as models

pytestmark = pytest.mark.torch_free

REAL = varint(7 << 3 | 5) + struct.pack("<f", 1)
SUM = node("Concat", "x x x", "a", axis=0)


def listing(numbers: bytes, kind: int) -> bytes:
    """A node with an attribute that lists something."""
    return node("Relu", "x", more=field(5, field(1, "list") + numbers + field(20, kind)))


LIMITS: dict[str, tuple[Any, str, int, bytes, str]] = {
    "inputs": (nodes, "_MAX_ENDS", 2, graph([SUM]), "no outputs, or too many"),
    "outputs": (nodes, "_MAX_ENDS", 2, graph([node("Split", "x", "a b c")]), "too many"),
    "reals": (nodes, "_MAX_NUMBERS", 3, graph([listing(REAL * 4, 6)]), "list is too long"),
    "texts": (nodes, "_MAX_NUMBERS", 3, graph([listing(field(9, "a") * 4, 8)]), "is too long"),
    "nodes": (models, "_MAX_NODES", 1, graph([node("Relu", "x"), node("Relu", "x", "z")]),
              "more than 1 nodes or tensors"),
    "tensors": (models, "_MAX_NODES", 1, graph([node("Relu", "x")], [reals("a"), reals("b")]),
                "more than 1 nodes or tensors"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_of_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, limit, most, body, reason = LIMITS[name]
    check_graph(model(body), "x.onnx")
    monkeypatch.setattr(module, limit, most)
    with pytest.raises(InputError, match=rf"^x\.onnx: refused: .*{reason}"):
        check_graph(model(body), "x.onnx")


FORMS = {
    "no graph": (field(1, 8) + field(8, field(1, "") + field(2, 18)), "no graph, or no operator"),
    "no operator set": (field(1, 8) + field(7, graph([node("Relu", "x")])), "no operator set"),
    "an old version": (model(graph([node("Relu", "x")]))[2:], "IR version 0"),
    "a version to come": (
        field(1, 101) + model(graph([node("Relu", "x")]))[2:], "IR version 101",
    ),
    "a negative size": (
        model(graph([node("Relu", "x")], more=field(13, value("z", ["batch", -1])))), "impossible",
    ),
    "no outputs": (model(graph([node("Relu", "x", "")])), "no outputs"),
    "a list of another type": (
        model(graph([node("Relu", "x", more=field(5, attribute("axes", [1])[:-1] + b"\2"))])),
        "another type",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_graphs(name: str) -> None:
    raw, reason = FORMS[name]
    with pytest.raises(InputError, match=rf"^x\.onnx: refused: .*{reason}"):
        check_graph(raw, "x.onnx")


PACKED = pack({"a": b"12345", "b": b""})
PLAIN = PACKED[:-73] + b"\0\0"  # without a digest, as another program makes it


def opened(raw: bytes, path: Path) -> bytes:
    path.write_bytes(raw)
    read, names = open_zip(path)
    assert names == ["a", "b"]
    return read("a", 100)


def test_a_zip_without_a_digest_is_read(tmp_path: Path) -> None:
    assert opened(PACKED, tmp_path / "b.zip") == opened(PLAIN, tmp_path / "b.zip") == b"12345"


@pytest.mark.parametrize("more", [b"\0", b"PK", PLAIN[:4]])
def test_nothing_stands_behind_a_zip(more: bytes, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"b\.zip: cut off or damaged"):
        opened(PLAIN + more, tmp_path / "b.zip")


def test_a_zip_has_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_FILES", 1)
    with pytest.raises(InputError, match=r"b\.zip: over 1 files in the zip"):
        opened(PLAIN, tmp_path / "b.zip")


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    raw = bytearray(PLAIN)
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(mark) + offset] |= 1
    with pytest.raises(InputError, match=r"b\.zip: a is compressed"):
        opened(bytes(raw), tmp_path / "b.zip")


def test_overlapping_files_are_refused(tmp_path: Path) -> None:
    raw = bytearray(PLAIN)
    last = raw.rindex(b"PK\1\2")
    raw[last + 42 : last + 46] = bytes(4)
    with pytest.raises(IntegrityError):
        opened(pack_frame(bytes(raw)), tmp_path / "b.zip")


def pack_frame(raw: bytes) -> bytes:
    """The same zip, with a comment that cannot be right."""
    return raw[:-2] + struct.pack("<H", 71) + b"sha256:" + b"0" * 64


def forged(raw: bytes) -> bytes:
    """A digest that is right for whatever the directory says, sense or nonsense."""
    raw = pack_frame(raw)
    total, at = hashlib.sha256(), 0
    with zipfile.ZipFile(io.BytesIO(raw)) as file:
        for member in file.infolist():
            start = member.header_offset + 30 + len(member.filename)
            total.update(raw[at:start])
            at = start + member.compress_size
    total.update(raw[at:-64])
    return raw[:-64] + total.hexdigest().encode()


@pytest.mark.parametrize(("offset", "number"), [(42, 0), (20, 1 << 30)], ids=["begins", "ends"])
def test_a_file_outside_its_place_has_no_digest(offset: int, number: int, tmp_path: Path) -> None:
    """Else a small zip could have the same gigabytes hashed a thousand times."""
    assert forged(PLAIN) == PACKED
    raw = bytearray(PLAIN)
    struct.pack_into("<I", raw, raw.rindex(b"PK\1\2") + offset, number)
    (tmp_path / "b.zip").write_bytes(forged(bytes(raw)))
    with pytest.raises(IntegrityError, match=r"b\.zip: cut off or damaged"):
        open_zip(tmp_path / "b.zip")


def test_a_deflated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a", b"12345")
        out.writestr("b", b"")
    with pytest.raises(InputError, match="is compressed"):
        opened(path.read_bytes(), path)
