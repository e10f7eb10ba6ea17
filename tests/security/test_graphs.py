"""Hostile graphs are refused before onnxruntime reads them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from tests.security.bombs import bombs
from tests.security.build import SOUND, hostile, layers
from vae_runtime.bundle.checksums import graph_with_checksum
from vae_runtime.errors import InputError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_checks.model import _GRAPH, _MODEL
from vae_runtime.graph_checks.nodes import _TENSOR
from vae_runtime.graph_checks.protobuf import BYTES, message
from vae_runtime.inference.session import Session

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"
HOSTILE = hostile()
BOMBS = bombs()
CHILD = """
import os, struct, sys
from vae_runtime.inference.session import onnxruntime
ort = onnxruntime()
options = ort.SessionOptions()
options.log_severity_level, options.intra_op_num_threads = 4, 1
source, answers = sys.stdin.buffer, os.dup(1)
os.dup2(2, 1)  # onnxruntime prints there
while size := source.read(4):
    raw = source.read(struct.unpack("<I", size)[0])
    try:
        ort.InferenceSession(raw, options, providers=["CPUExecutionProvider"],
                             disabled_optimizers=["ConstantFolding"])
        answer = b"+"
    except Exception:
        answer = b"-"
    os.write(answers, answer)
"""


def graphs() -> Iterator[tuple[str, bytes]]:
    for path in sorted(DATA.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".onnx"):
                    yield f"{path.stem}/{name}", archive.read(name)


def test_every_graph_of_the_test_bundles_passes() -> None:
    found = [check_graph(raw, name).metadata for name, raw in graphs()]
    for raw in (SOUND, layers()):
        assert check_graph(raw, "x").metadata == {}
    assert len(found) == 26
    assert all(keys.keys() == {"vae_onnx", "vae_onnx_sha256"} for keys in found)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused(name: str) -> None:
    raw, reason = HOSTILE[name]
    with pytest.raises(InputError) as caught:
        check_graph(raw, "x.onnx")
    assert str(caught.value).startswith("x.onnx: refused: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_quickly(name: str) -> None:
    began = time.perf_counter()
    raw, reason = BOMBS[name]
    with pytest.raises(InputError) as caught:
        check_graph(raw, "x.onnx")
    assert reason in str(caught.value)
    assert time.perf_counter() - began < 1


def test_a_hostile_graph_with_a_correct_checksum_is_refused(tmp_path: Path) -> None:
    count = 0
    for raw in [raw for raw, _ in (*HOSTILE.values(), *BOMBS.values())]:
        path = tmp_path / "d.onnx"
        path.write_bytes(graph_with_checksum(raw))
        with pytest.raises(InputError, match=r"d\.onnx: "):
            vae.Decoder(path)
        count += 1
    print(f"\n{count} hostile graphs refused as lone files, {len(BOMBS)} of them bombs")


def test_the_graph_with_risky_layers_runs() -> None:
    with Session(layers(), device="cpu") as session:
        (y,) = session.run(["y"], x=np.zeros((3, 4), np.float32))
    assert y.shape == (3, 36)


class Loader:
    """A subprocess that loads graphs with onnxruntime and may crash."""

    def __init__(self) -> None:
        self.deaths = 0
        self.child = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def load(self, raw: bytes) -> str:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(len(raw).to_bytes(4, "little") + raw)
        self.child.stdin.flush()
        answer = self.child.stdout.read(1).decode()
        if not answer:
            self.deaths += 1
            self.close()
            self.child = self._start()
        return answer or "died"

    def close(self) -> None:
        for pipe in (self.child.stdin, self.child.stdout):
            assert pipe is not None
            pipe.close()
        self.child.wait()


def structure(raw: bytes) -> list[int]:
    """Offsets of bytes that are neither weights nor the spec; only changes there can do harm."""
    whole = message(raw, (0, len(raw), BYTES), _MODEL, "")
    body = message(raw, whole[7][0], _GRAPH, "")
    free = bytearray(b"\1" * len(raw))
    contents = [message(raw, part, _TENSOR, "").get(9, [(0, 0, 0)])[0] for part in body[5]]
    for span in [*contents, *whole.get(14, ())]:
        if span[1] - span[0] > 64:
            free[span[0] : span[1]] = bytes(span[1] - span[0])
    return [i for i, one in enumerate(free) if one]


def mutant(raw: bytes, places: list[int], chance: random.Random) -> bytes:
    """Truncate, or change one to four bits or bytes, in four of five cases in the structure."""
    data = bytearray(raw)
    for _ in range(chance.randint(1, 4)):
        at = chance.choice(places) if chance.random() < 0.8 else chance.randrange(len(data))
        if chance.random() < 0.5:
            data[at] ^= 1 << chance.randrange(8)
        else:
            data[at] = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    if chance.random() < 0.1:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


def hunt(count: int) -> dict[str, int]:
    """Load mutants that pass the checks in a subprocess."""
    chance = random.Random(0)
    shipped = [raw for _, raw in graphs()]
    # Half of the mutants come from the graph with every risky layer.
    sources = [(raw, structure(raw)) for raw in (*shipped, *[layers()] * len(shipped))]
    tally = {"mutants": 0, "refused": 0, "+": 0, "-": 0, "died": 0}
    loader = Loader()
    try:
        for _ in range(count):
            raw = mutant(*chance.choice(sources), chance)
            tally["mutants"] += 1
            try:
                check_graph(raw, "m")
            except InputError:
                tally["refused"] += 1
            else:
                tally[loader.load(raw)] += 1
    finally:
        loader.close()
    print(f"\n{tally}")
    return tally


def test_mutants_never_crash_the_process() -> None:
    assert hunt(1000)["died"] == 0


@pytest.mark.slow
def test_twenty_thousand_mutants_never_crash_the_process() -> None:
    assert hunt(20_000)["died"] == 0
