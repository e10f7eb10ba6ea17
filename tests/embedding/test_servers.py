"""Start real servers and check pixels, health, metadata and refused requests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from vae_export.targets.triton import write_triton
from vae_runtime.verification import TOLERANCE

from .conftest import open_in, skip_if_missing
from .host import Vectors, call
from .inference_protocol import Answer, Client, check_health, send_wrong_requests, tensor
from .servers import MLSERVER_ROWS, TRITON_ROWS, Started, environment, mlserver, triton

pytestmark = pytest.mark.slow  # each installs its environment once

SERVERS: dict[str, tuple[Callable[[Vectors], Any], str, int]] = {
    "mlserver": (mlserver, "vae", MLSERVER_ROWS),
    "triton": (triton, "vae_conditional_decoder", TRITON_ROWS),
}


class Running:
    """A running server, its client and the golden vectors."""

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
        started = skip_if_missing(stack.enter_context, start(vectors))
        yield Running(vectors, started, model, rows)


def test_health_and_metadata(running: Running) -> None:
    check_health(running.client)


def test_a_server_gives_the_pixels_of_torch(running: Running) -> None:
    vectors = running.vectors
    labelled = vectors.labelled
    found = running.client.decode(vectors.z[labelled], vectors.label[labelled])
    assert vectors.error(found, labelled) <= TOLERANCE


def test_a_server_samples_as_the_sampler_graph_does(running: Running) -> None:
    vectors = running.vectors
    names = [tensor["name"] for tensor in running.client.metadata()["inputs"]]
    if "noise" not in names:
        pytest.skip("Triton serves the sampler as a model of its own")
    noise = np.random.default_rng(0).standard_normal((4, vectors.z.shape[1] + 1), np.float32)
    label = np.array([0, 3, 7, 9])
    with vae.Sampler(vectors.folder / "sampler.onnx") as sampler:
        expected = sampler(noise, label)
    found = running.client.sample(noise, label)
    np.testing.assert_allclose(found["image"], expected, rtol=0, atol=TOLERANCE)
    z = vectors.spec.prior.transform(noise, label)
    np.testing.assert_allclose(found["z"].reshape(z.shape), z, rtol=0, atol=1e-6)


def test_a_server_refuses_wrong_requests_and_keeps_running(running: Running) -> None:
    for what, answer in send_wrong_requests(running.client, running.rows):
        assert answer.refused, (what, answer)
    for raw in (b"", b"{", b"[]", b'{"inputs": 3}', b"\xff\xfe", b"[" * 100_000):
        answer = running.client.post(raw)
        # Triton reports JSON that it cannot parse as a server error.
        assert answer.status >= 400, (raw[:20], answer)
        assert answer.reason
    check_health(running.client)
    test_a_server_gives_the_pixels_of_torch(running)


def test_the_error_of_a_wrong_label_is_that_of_the_runtime(running: Running) -> None:
    d = running.vectors.z.shape[1]
    z = tensor("z", "FP32", np.zeros((1, d), np.float32))
    label = tensor("label", "INT64", np.full(running.client.label_shape(1), 10))
    answer = running.client.infer(z, label)
    expected = {"error": "label: 10 is out of range, expected 0 to 9"}
    assert answer == Answer(400, expected)


def test_servers_listen_only_on_this_machine(running: Running) -> None:
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


def test_the_configs_match_the_schema_of_triton(tmp_path: Path) -> None:
    """The tritonclient of the environment parses them as ModelConfig, like the server."""
    python = skip_if_missing(environment, "triton")
    bundle = open_in(tmp_path, "cvae_mlp").bundle
    files = {name: bundle.read(spec) for name, spec in bundle.manifest.files().items()}
    names = write_triton(bundle.manifest, files, tmp_path / "models", "m")
    assert len(names) == len(bundle.manifest.graphs)
    assert sorted(call([python, "-c", CHECK, tmp_path / "models"]).split()) == sorted(names)


def listeners(pid: int) -> set[str]:
    """Find the addresses on which a process and its children listen, in the kernel's tables."""
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
