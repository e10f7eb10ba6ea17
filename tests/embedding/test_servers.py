"""Servers, really started: pixels, health, metadata, and what they refuse."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_export.targets.triton import write_triton
from vae_runtime.verification import TOLERANCE

from .conftest import here, open_in
from .host import Vectors, call
from .inference_protocol import Answer, Client, healthy, tensor, wrong
from .servers import MLSERVER_ROWS, TRITON_ROWS, Started, environment, mlserver, triton

pytestmark = pytest.mark.slow  # each installs an environment, once

SERVERS: dict[str, tuple[Callable[[Vectors], Any], str, int]] = {
    "mlserver": (mlserver, "vae", MLSERVER_ROWS),
    "triton": (triton, "vae_conditional_decoder", TRITON_ROWS),
}


class Running:
    """A server with what is asked of it."""

    def __init__(self, vectors: Vectors, started: Started, model: str, rows: int) -> None:
        self.vectors, self.started, self.rows = vectors, started, rows
        self.client = Client(started.url, model)


@pytest.fixture(scope="module", params=SERVERS)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    start, model, rows = SERVERS[request.param]
    vectors = open_in(tmp_path_factory.mktemp(request.param), "cvae_conv")
    with ExitStack() as stack:
        started = here(stack.enter_context, start(vectors))
        yield Running(vectors, started, model, rows)


def test_it_is_healthy_and_says_what_it_takes(running: Running) -> None:
    healthy(running.client)


def test_it_gives_torchs_pixels(running: Running) -> None:
    known = running.vectors.label < 10
    z, label = running.vectors.z[known], running.vectors.label[known]
    found = running.client.decode(z, label)
    assert found.shape == running.vectors.image[known].shape
    assert np.abs(found - running.vectors.image[known]).max() <= TOLERANCE


def test_it_refuses_what_is_wrong_and_goes_on(running: Running) -> None:
    for what, answer in wrong(running.client, running.rows):
        assert answer.refused, (what, answer)
    for raw in (b"", b"{", b"[]", b'{"inputs": 3}', b"\xff\xfe", b"[" * 100_000):
        answer = running.client.post(raw)
        # Triton calls what it cannot parse an error of its own.
        assert answer.status >= 400, (raw[:20], answer)
        assert answer.reason
    healthy(running.client)
    test_it_gives_torchs_pixels(running)


def test_a_wrong_label_is_answered_in_the_runtimes_words(running: Running) -> None:
    d = running.vectors.z.shape[1]
    z = tensor("z", "FP32", np.zeros((1, d), np.float32))
    label = tensor("label", "INT64", np.full(running.client.label_shape(1), 10))
    answer = running.client.infer(z, label)
    expected = {"error": "label: 10 is out of range, expected 0 to 9"}
    assert answer == Answer(400, expected)


def test_nothing_listens_beyond_this_machine(running: Running) -> None:
    listening = listeners(running.started.process.pid)
    assert listening
    assert listening <= {"127.0.0.1"}


CHECK = """
import sys
from pathlib import Path
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
for path in Path(sys.argv[1]).glob("*/config.pbtxt"):
    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    assert config.name == path.parent.name and config.backend == "onnxruntime"
    assert config.HasField("dynamic_batching") and config.max_batch_size == 256
    assert all(i.data_type and i.dims for i in [*config.input, *config.output])
    print(config.name)
"""


def test_the_configs_fit_tritons_own_schema(tmp_path: Path) -> None:
    """Parsed as ModelConfig, as the server does, by the tritonclient of its environment."""
    python = here(environment, "triton")
    bundle = open_in(tmp_path, "cvae_mlp").bundle
    files = {name: bundle.read(spec) for name, spec in bundle.manifest.files().items()}
    names = write_triton(bundle.manifest, files, tmp_path / "models", "m")
    assert len(names) == len(bundle.manifest.graphs)
    assert sorted(call([python, "-c", CHECK, tmp_path / "models"]).split()) == sorted(names)


def listeners(pid: int) -> set[str]:
    """The addresses that a process and its children listen on, from the kernel's own tables."""
    tree = {str(pid)}
    for status in Path("/proc").glob("[0-9]*/stat"):
        fields = _read(status).rpartition(")")[2].split()
        if len(fields) > 1 and fields[1] in tree:
            tree.add(status.parent.name)
    nodes = set()
    for one in tree:
        for handle in Path(f"/proc/{one}/fd").glob("*"):
            try:
                target = str(handle.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                nodes.add(target[8:-1])
    found = set()
    for line in (_read(Path("/proc/net/tcp")) + _read(Path("/proc/net/tcp6"))).splitlines():
        parts = line.split()
        if len(parts) > 9 and parts[3] == "0A" and parts[9] in nodes:
            raw = bytes.fromhex(parts[1].partition(":")[0])
            found.add(".".join(str(byte) for byte in raw[-4:][::-1]))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, subprocess.SubprocessError):
        return ""
