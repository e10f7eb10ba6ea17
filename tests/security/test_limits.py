"""Checks that no other test covers; each was found by disabling it."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.security.build import field, graph, integers, model, node, reals, tensor
from tests.security.rechecksum import read_files
from vae_runtime.bundle import archive
from vae_runtime.bundle import reader as bundle
from vae_runtime.bundle.checksums import verify_graph
from vae_runtime.datasets.idx import read_idx
from vae_runtime.errors import FileError, InputError, IntegrityError, LimitError, NotFound
from vae_runtime.files import atomic as files
from vae_runtime.files.atomic import append_line
from vae_runtime.files.npz import read_npy, read_npz
from vae_runtime.files.reading import read_bytes
from vae_runtime.graph_checks import check_graph

pytestmark = pytest.mark.torch_free

BUNDLE = Path(__file__).parents[1] / "data" / "ae_mlp.zip"


def npy(descr: object, data: bytes = bytes(8), shape: object = (2,), padding: int = 0) -> bytes:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * padding
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize("descr", ["f4", "a4", "(2,)f4", "f2,f2", "<f4 ", None, ["<f4"], 4])
def test_only_plain_dtypes_as_numpy_writes_them(descr: object) -> None:
    assert read_npy(npy("<f4"), "x").tolist() == [0, 0]
    with pytest.raises(InputError, match=r"^x: not a readable \.npy of plain numbers$"):
        read_npy(npy(descr), "x")


def test_the_error_for_objects_names_the_dtype() -> None:
    with pytest.raises(InputError, match=r"^x: holds object, expected plain numbers$"):
        read_npy(npy("|O"), "x")


def test_a_header_of_over_ten_thousand_bytes_is_not_read() -> None:
    assert read_npy(npy("<f4", padding=9_900), "x").tolist() == [0, 0]
    with pytest.raises(InputError):
        read_npy(npy("<f4", padding=10_000), "x")


@pytest.mark.parametrize(
    ("shape", "data"),
    [((0,), b"more"), ((2,), bytes(4)), ((2,), bytes(12)), ((-2,), bytes(8)), ((-1, -2), bytes(8)),
     ((2.0,), bytes(8)), ("2", bytes(8)), (None, bytes(8)), ((0, 1 << 64), b"")],
)  # fmt: skip
def test_a_shape_that_does_not_fit_the_bytes_is_refused(shape: object, data: bytes) -> None:
    with pytest.raises(InputError, match=r"^x: not a readable"):
        read_npy(npy("<f4", data, shape), "x")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_numpy_does_not_use_is_refused(method: int) -> None:
    """zipfile decompresses these two without a limit."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.npy", npy("<f4"))
    with pytest.raises(InputError, match=r"^x: not a readable \.npz"):
        read_npz(buffer.getvalue(), "x")


def test_an_empty_shape_that_numpy_cannot_create(tmp_path: Path) -> None:
    path = tmp_path / "idx"
    path.write_bytes(bytes([0, 0, 8, 4, 0, 0, 0, 0]) + b"\xff" * 12)
    with pytest.raises(InputError, match=r"idx: impossible sizes \[0, 4294967295"):
        read_idx(path)


def test_a_manifest_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(read_files(BUNDLE)["manifest.json"])
    monkeypatch.setattr(bundle, "MAX_MANIFEST", size)
    bundle.open_bundle(BUNDLE)
    monkeypatch.setattr(bundle, "MAX_MANIFEST", size - 1)
    with pytest.raises(LimitError, match=rf"manifest\.json: over {size - 1} bytes$"):
        bundle.open_bundle(BUNDLE)


def test_a_zip_has_a_maximum_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_FILES", 3)
    with pytest.raises(InputError, match=r"ae_mlp\.zip: more than 3 files in the zip$"):
        bundle.open_bundle(BUNDLE)


def test_a_zip_of_over_four_gigabytes_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    with pytest.raises(LimitError, match=r"at most 4 GB\. Write the bundle as a folder\.$"):
        archive.pack({"a": bytes(11)})


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.iterdir

    def refused(path: Path) -> Iterator[Path]:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(FileError, match=r": permission denied$"):
        bundle.open_bundle(tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, raw in read_files(BUNDLE).items():
        (tmp_path / name).write_bytes(raw)

    def refused(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(FileError, match=r"manifest\.json: input/output error$"):
        bundle.open_bundle(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_folder_contains_only_plain_files(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(read_files(BUNDLE)["manifest.json"])
    manifest = tmp_path / "bundle" / "manifest.json"
    manifest.parent.mkdir()
    for make, what in (
        (lambda: manifest.symlink_to(tmp_path / "other"), "a symbolic link"),
        (manifest.mkdir, "not a file"),
    ):
        make()
        with pytest.raises(InputError) as caught:
            bundle.open_bundle(manifest.parent)
        assert str(caught.value) == f"{manifest}: {what}; a bundle holds plain files only"
        manifest.rename(tmp_path / what)


def test_no_such_bundle(tmp_path: Path) -> None:
    with pytest.raises(
        NotFound, match=r"none: no such bundle\. .*an embedded one: fashion, mnist$"
    ):
        bundle.open_bundle(tmp_path / "none")


def test_arrays_have_a_limit() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=np.zeros(1 << 20, np.uint8), b=np.zeros(1 << 20, np.uint8))
    assert list(read_npz(buffer.getvalue(), "x", max_bytes=3 << 20)) == ["a", "b"]
    with pytest.raises(LimitError, match=r"^x: over 2 MB of arrays$"):
        read_npz(buffer.getvalue(), "x", max_bytes=2 << 20)


def test_a_file_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(2 << 20))
    assert len(read_bytes(path, max_bytes=2 << 20)) == 2 << 20
    with pytest.raises(LimitError, match=r"f: over 1 MB$"):
        read_bytes(path, max_bytes=(2 << 20) - 1)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as file:
        file.truncate(64 << 20)  # a sparse file
    tracemalloc.start()
    try:
        with pytest.raises(LimitError, match=r"f: over 32 MB$"):
            read_bytes(path, max_bytes=32 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"x: no such file$"):
        read_bytes(tmp_path / "x")
    with pytest.raises(NotFound, match=r"x: no such file\. Make it\.$"):
        read_bytes(tmp_path / "x", "Make it.")
    with pytest.raises(FileError, match=r": is a directory$"):
        read_bytes(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"", b"new\n"), (b"half", b"new\n"), (b"old\n", b"old\nnew\n"), (b"old\nha", b"old\nnew\n"),
     (b"old\n" + b"x" * 200_000, b"old\nnew\n")],
)  # fmt: skip
def test_half_a_line_is_removed(before: bytes, after: bytes, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(before)
    append_line(path, b"new")
    assert path.read_bytes() == after


def test_folders_are_swapped_where_the_system_cannot_do_it_atomically(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_runtime.files import atomic

    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.setattr(atomic, "_swap_atomically", lambda new, old: False)
    atomic.swap(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert (tmp_path / "new" / "file").read_text() == "old"
    (tmp_path / "new" / "file").unlink()
    (tmp_path / "new").rmdir()
    with pytest.raises(FileNotFoundError) as caught:
        atomic.swap(tmp_path / "new", tmp_path / "old")
    assert caught.value.filename == str(tmp_path / "new")
    assert (tmp_path / "old" / "file").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be_replaced_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.mkdir()
    (target / "old").touch()

    def write() -> None:
        with files.writing_folder(target) as folder:
            (folder / "new").touch()
            raise KeyError("its own")

    with pytest.raises(KeyError):
        write()
    assert [p.name for p in tmp_path.rglob("*")] == ["bundle", "old"]


def reading(constant: bytes, *nodes: bytes) -> bytes:
    """A graph with one constant `c`."""
    return model(graph(list(nodes) or [node("Add", "x c")], [constant]))


FLOATS = struct.pack("<5f", *range(5))
CONSTANTS = {
    "no numbers, a negative size": (tensor("c", [0, -1], b""), "an impossible shape"),
    "no numbers, a huge size": (tensor("c", [1 << 40, 0], b""), "an impossible shape"),
    "no numbers, huge sizes after 0": (
        tensor("c", [0, 1 << 30, 1 << 30, 1 << 30], b""), "an impossible shape",
    ),
    "type of another encoding": (
        field(1, 1) + field(2, b"\1") + field(8, "c"), "has the wrong encoding",
    ),
    "two lists": (
        field(1, 1) + field(2, 1) + field(4, FLOATS[:4]) + field(7, b"\1") + field(8, "c"),
        "lists 1",
    ),
    "half number": (field(1, 1) + field(2, 1) + field(4, FLOATS[:5]) + field(8, "c"), "truncated"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_malformed_constant(name: str) -> None:
    constant, reason = CONSTANTS[name]
    check_graph(reading(reals("c", 1)), "x.onnx")
    with pytest.raises(InputError, match=f"refused: .*{reason}"):
        check_graph(reading(constant), "x.onnx")


def test_only_integers_may_not_be_divided_by_zero() -> None:
    shape = node("Shape", "x", "n")
    check_graph(reading(reals("c", 0), node("Div", "x c")), "x.onnx")
    check_graph(reading(reals("c", 1), node("Add", "x c", "d"), node("Div", "x d")), "x.onnx")
    more = [node("Gather", "q zero", "g"), node("Cast", "g", "r", to=1), node("Add", "x r")]
    for divisors, fits in (((2, 2), True), ((-2, 3), True), ((2, 0), False), ((2, -1), False)):
        raw = model(
            graph(
                [shape, node("Div", "n c", "q"), *more],
                [integers("c", *divisors), integers("zero", 0)],
            )
        )
        if fits:
            check_graph(raw, "x.onnx")
        else:
            with pytest.raises(InputError, match="by zero or by -1"):
                check_graph(raw, "x.onnx")


def test_a_checksum_is_missing_where_only_its_key_is_left() -> None:
    raw = bytearray(read_files(BUNDLE)["decoder.onnx"])
    verify_graph(bytes(raw), "x.onnx")
    raw[5] ^= 1  # the name of the producer
    raw[-66] ^= 1  # the byte after the key of the checksum
    with pytest.raises(IntegrityError, match="carries no sha256"):
        verify_graph(bytes(raw), "x.onnx")
