"""Flipped bits and truncations in folders, zips and single graphs are all refused."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.rechecksum import read_files
from vae_runtime.bundle.checksums import verify_graph
from vae_runtime.bundle.manifest import NAME
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import InputError, IntegrityError, VaeError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graphs import Graph

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"
ZIPS = sorted(DATA.glob("*.zip"))


def read_all(path: Path) -> None:
    """Read every file of a bundle, up to the point where onnxruntime would receive it."""
    bundle = open_bundle(path)
    for spec in bundle.manifest.files().values():
        bundle.read(spec)


def read_graph(path: Path) -> None:
    raw = path.read_bytes()
    verify_graph(raw, str(path))
    check_graph(raw, str(path))


def rotten(raw: bytes, chance: random.Random) -> bytes:
    """Flip one bit, or in one of ten cases truncate the file."""
    at = chance.randrange(len(raw))
    if chance.random() < 0.1:
        return raw[:at]
    return raw[:at] + bytes([raw[at] ^ 1 << chance.randrange(8)]) + raw[at + 1 :]


def places(tmp_path: Path) -> Iterator[tuple[str, Path, Path]]:
    """Files to damage, and how to open them: zips, files in folders, single graphs."""
    for source in ZIPS:
        target = tmp_path / source.name
        target.write_bytes(source.read_bytes())
        yield "zip", target, target
        folder = tmp_path / source.stem
        folder.mkdir()
        for name, raw in read_files(source).items():
            (folder / name).write_bytes(raw)
        for name in read_files(source):
            yield ("manifest" if name == NAME else "folder"), folder / name, folder
            if name.endswith(".onnx"):
                yield "graph", folder / name, folder / name


def rot(count: int, tmp_path: Path) -> Counter[str]:
    chance = random.Random(0)
    found = list(places(tmp_path))
    kinds = {
        kind: [p for p in found if p[0] == kind] for kind in ("zip", "manifest", "folder", "graph")
    }
    tally: Counter[str] = Counter()
    for index in range(count):
        kind, damaged, opened = chance.choice(list(kinds.values())[index % 4])
        raw = damaged.read_bytes()
        damaged.write_bytes(rotten(raw, chance))
        try:
            read_graph(opened) if kind == "graph" else read_all(opened)
        except VaeError as error:
            # The manifest of a zip is a manifest, too; one that is no JSON may have been edited.
            part = "manifest" if "manifest.json: not valid JSON" in str(error) else kind
            tally[f"{part} {error.exit_code}"] += 1
        else:
            tally["accepted"] += 1
        damaged.write_bytes(raw)
    print(f"\n{count} flips and truncations: {dict(sorted(tally.items()))}")
    # A manifest may also be refused because it is not JSON any more.
    assert not {"accepted", "folder 3", "graph 3", "zip 3"} & tally.keys()
    assert sum(tally.values()) == count
    return tally


def test_a_thousand_damaged_files_are_found(tmp_path: Path) -> None:
    rot(1000, tmp_path)


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_found(tmp_path: Path) -> None:
    rot(10_000, tmp_path)


def test_every_bit_of_a_graph_s_checksum_and_of_a_manifest_s_start(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    files = read_files(ZIPS[1])
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    graph, manifest = files["decoder.onnx"], files[NAME]
    for at in range(len(graph) - 90, len(graph)):
        for bit in range(8):
            bad = graph[:at] + bytes([graph[at] ^ 1 << bit]) + graph[at + 1 :]
            with pytest.raises(IntegrityError):
                verify_graph(bad, "x.onnx")
    for at in range(100):
        for bit in range(8):
            bad = manifest[:at] + bytes([manifest[at] ^ 1 << bit]) + manifest[at + 1 :]
            (folder / NAME).write_bytes(bad)
            with pytest.raises((IntegrityError, InputError)):
                open_bundle(folder)


def test_a_single_graph_truncated_anywhere_is_refused() -> None:
    raw = read_files(ZIPS[1])["decoder.onnx"]
    for length in [*range(200), *range(200, len(raw), 97)]:
        with pytest.raises(IntegrityError, match=r"^x\.onnx: "):
            verify_graph(raw[:length], "x.onnx")


def test_encoder_and_decoder_refuse_a_damaged_graph(tmp_path: Path) -> None:
    raw = bytearray(read_files(ZIPS[1])["decoder.onnx"])
    raw[len(raw) // 2] ^= 4
    path = tmp_path / "decoder.onnx"
    path.write_bytes(raw)
    with pytest.raises(IntegrityError, match=r"decoder\.onnx: damaged: .*sha256"):
        Graph(path)
