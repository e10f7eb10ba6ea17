"""`vae-run serve`: its answers, its limits, and the process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from tests.normality import with_normality
from vae_runtime.images import encode_image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")
from starlette.testclient import TestClient

from vae_runtime.server.app import create_app
from vae_runtime.server.formats import JSON, NPY, negotiate
from vae_runtime.server.limits import LimitRequests, Limits, RequestError

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"
LIMITS = Limits(bytes=100_000, images=20, pixels=10_000, seconds=0.2)


@pytest.fixture
def client(cvae: vae.Autoencoder) -> Iterator[TestClient]:
    with TestClient(create_app(cvae, LIMITS), base_url="http://localhost") as client:
        yield client


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def load_npy(raw: bytes) -> Any:
    return np.load(io.BytesIO(raw))


def pixels(raw: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(raw)).convert("L"))


def test_facts(client: TestClient, cvae: vae.Autoencoder) -> None:
    assert client.get("/health").json()["status"] == "ok"
    spec = client.get("/spec").json()
    assert spec["classes"] == list(cvae.spec.classes)
    assert spec["prior"] == {"kind": "class_gmm"}
    assert len(json.dumps(spec)) < 1000


def test_the_interface_is_described_as_openapi_requires(client: TestClient) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    description = client.get("/openapi.json").json()
    validator.validate(description)
    assert set(description["paths"]) == {
        "/health", "/spec", "/sample", "/decode", "/encode", "/reconstruct", "/score", "/detect",
    }  # fmt: skip
    assert all(
        "requestBody" in path["post"] for path in description["paths"].values() if "post" in path
    )


def test_sample_in_every_format(client: TestClient, cvae: vae.Autoencoder) -> None:
    body = {"n": 1, "label": 3, "seed": 5, "temperature": 0.7}
    expected = cvae.sample(1, 3, seed=5, temperature=0.7)
    levels = np.rint(expected[0, 0] * 255)
    for accept in (None, "image/png", "image/*", "text/html, image/webp;q=0.5"):
        answer = client.post("/sample", json=body, headers={"Accept": accept or "*/*"})
        assert answer.status_code == 200
        assert np.array_equal(pixels(answer.content), levels), accept
        assert answer.headers["x-seed"] == "5"
    answer = client.post("/sample", json=body, headers={"Accept": NPY})
    assert np.array_equal(load_npy(answer.content), expected)
    answer = client.post("/sample", json=body, headers={"Accept": JSON})
    np.testing.assert_allclose(answer.json()["images"], expected)
    large = client.post("/sample?scale=8", json=body)
    assert pixels(large.content).shape == (64, 64)


def test_a_sample_without_a_body_and_its_seed(client: TestClient, cvae: vae.Autoencoder) -> None:
    answer = client.post("/sample", headers={"Accept": NPY})
    seed = int(answer.headers["x-seed"])
    assert np.array_equal(load_npy(answer.content), cvae.sample(1, seed=seed))


def test_several_images_are_a_grid(client: TestClient) -> None:
    answer = client.post("/sample", json={"n": 6, "label": ["1"] * 6})
    assert pixels(answer.content).shape == (18, 28)


@pytest.mark.parametrize("kind", ["file", "npy", "json"])
def test_images_in_every_format(client: TestClient, cvae: vae.Autoencoder, kind: str) -> None:
    image = cvae.sample(1, 2, seed=0, dtype="uint8")
    floats = (image / 255).astype(np.float32)
    body = {
        "file": encode_image(image[0]),
        "npy": npy(image),
        "json": json.dumps({"images": floats.tolist()}).encode(),
    }[kind]
    mu, log_var = cvae.posterior(image, 2)
    answer = client.post("/encode?label=2", content=body).json()
    np.testing.assert_allclose(answer["z"], mu, atol=1e-5)
    np.testing.assert_allclose(answer["log_var"], log_var, atol=1e-5)
    answer = client.post("/encode?label=2", content=body, headers={"Accept": NPY})
    np.testing.assert_allclose(load_npy(answer.content), mu, atol=1e-5)
    again = client.post("/reconstruct?label=2", content=body)
    expected = cvae.reconstruct(image, 2, dtype="uint8")[0, 0]
    assert np.abs(pixels(again.content).astype(int) - expected).max() <= 1
    scores = client.post("/score?label=2&samples=3&seed=1", content=body).json()
    expected_scores = cvae.score(image, 2, samples=3, seed=1)
    for name, values in expected_scores._asdict().items():
        np.testing.assert_allclose(scores[name], values, rtol=1e-4)


def test_anomalies_in_every_format(client: TestClient, tmp_path: Path) -> None:
    unknown = client.post("/detect", content=png_of(8, 8))
    assert unknown.status_code == 422
    assert "does not say what is normal" in unknown.json()["error"]
    path = with_normality(DATA / "vae_mlp.zip", tmp_path / "b.zip")
    with (
        vae.load(path, device="cpu") as model,
        TestClient(create_app(model, LIMITS), base_url="http://localhost") as client,
    ):
        images = model.sample(6, seed=3)
        images[0, :, 2:4, 2:4] = 1 - images[0, :, 2:4, 2:4]
        found = model.detect(images, false_alarms=0.1)
        body = npy(images)
        answer = client.post("/detect?false_alarms=0.1", content=body).json()
        np.testing.assert_allclose(answer["scores"], found.scores, rtol=1e-4)
        assert answer["anomalous"] == found.anomalous.tolist()
        assert (answer["threshold"], answer["false_alarms"]) == (found.threshold, 0.1)
        maps = client.post("/detect", content=body, headers={"Accept": NPY})
        np.testing.assert_allclose(load_npy(maps.content), found.maps, rtol=1e-4)
        picture = client.post("/detect", content=body, headers={"Accept": "image/png"})
        assert Image.open(io.BytesIO(picture.content)).mode == "RGB"
        few = client.post("/detect?false_alarms=0.001", content=body)
        assert (few.status_code, "held-out" in few.json()["error"]) == (422, True)


def test_latents_in_every_format(client: TestClient, cvae: vae.Autoencoder) -> None:
    z = cvae.sample_latents(2, [1, 2], seed=0)
    expected = cvae.decode(z, [1, 2])
    for content in (npy(z), json.dumps({"z": z.tolist()}).encode()):
        answer = client.post("/decode?label=1&label=2", content=content, headers={"Accept": NPY})
        np.testing.assert_allclose(load_npy(answer.content), expected, atol=1e-6)
    answer = client.post(
        "/decode", json={"z": z.tolist(), "label": [1, 2]}, headers={"Accept": NPY}
    )
    np.testing.assert_allclose(load_npy(answer.content), expected, atol=1e-6)


def test_an_enlarged_sample_is_read_as_it_was(client: TestClient) -> None:
    large = client.post("/sample?scale=8", json={"label": 1, "seed": 0}).content
    small = client.post("/sample", json={"label": 1, "seed": 0}).content
    assert (
        client.post("/encode", content=large).json() == client.post("/encode", content=small).json()
    )


def png_of(height: int, width: int) -> bytes:
    return encode_image(np.zeros((1, height, width), np.uint8))


@pytest.mark.parametrize(
    ("path", "content", "status", "message"),
    [
        ("/sample", b'{"n": 21}', 413, "21 images, at most 20 per request"),
        ("/sample", b'{"n": -1}', 422, "n is -1, expected a whole number, 0 or more"),
        ("/sample", b'{"n": 1.5}', 422, "n: input should be a valid integer"),
        ("/sample", b'{"label": 10}', 422, "label: 10 is out of range, expected 0 to 9"),
        ("/sample", b'{"seed": -1}', 422, "seed is -1, expected a whole number from 0"),
        ("/sample", b'{"digit": 3}', 422, "digit: extra inputs are not permitted"),
        ("/sample", b"[]", 422, "body: input should be an object"),
        ("/sample", b"{", 422, "body: invalid json"),
        ("/sample?label=3", b"", 422,
         "unknown parameter 'label' in the address, expected scale. Put it in the body"),
        ("/health?x=1", b"", 405, "POST /health: method not allowed"),
        ("/sample?scale=65", b"", 422, "scale: input should be less than or equal to 64"),
        ("/encode", png_of(101, 100), 413, "image: 101x100 pixels, limit 10000"),
        ("/encode", png_of(9, 9), 422, "image: 9×9 pixels; the model takes 8×8. Use ?resize=true"),
        ("/encode", b"http://localhost/x.png", 422, "image: not an image"),
        ("/encode", b"", 422, "image: not an image"),
        ("/encode", npy(np.zeros((21, 1, 8, 8), np.uint8)), 413, "21 images, at most 20"),
        ("/encode", npy(np.full((1, 1, 8, 8), 2, np.float32)), 422, "images: values run from 2"),
        ("/encode", b'{"images": [[1], [2, 3]]}', 422, "images: lists of different lengths"),
        ("/encode", b'{"images": ["a"]}', 422, "images: expected numbers only"),
        ("/encode?label=1", b'{"images": [], "label": 1}', 422, "label: given in the query and"),
        ("/decode", b'{"z": [[1, 2]]}', 422, "z: shape [1, 2], expected [N, 6]"),
        ("/decode", b'{"z": [[1e39, 0, 0, 0, 0, 0]]}', 422, "z: inf at [0, 0], expected finite"),
        ("/decode", b'{"z": 3}', 422, "z: input should be a valid"),
        ("/score?samples=0", b"", 422, "samples: input should be greater than or equal to 1"),
        ("/encode", b"x" * 100_001, 413, "the body is larger than 100,000 bytes"),
        ("/nowhere", b"", 404, "POST /nowhere: not found. GET /openapi.json lists what there is"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_in_one_line(
    client: TestClient, path: str, content: bytes, status: int, message: str
) -> None:
    answer = client.post(path, content=content)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert "\n" not in answer.json()["error"]


def test_only_fields_of_the_body_are_said_to_belong_there(client: TestClient) -> None:
    error = client.post("/sample?format=png").json()["error"]
    assert error == "unknown parameter 'format' in the address, expected scale"


def test_a_body_in_chunks_is_limited_too(client: TestClient) -> None:
    answer = client.post("/encode", content=iter([b"x" * 60_000] * 2))
    assert answer.status_code == 413


def test_other_host_names_are_refused(cvae: vae.Autoencoder) -> None:
    with TestClient(create_app(cvae), base_url="http://evil.example") as client:
        assert client.get("/spec").status_code == 400
    with TestClient(create_app(cvae, local=False), base_url="http://my.example") as client:
        assert client.get("/spec").status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "image/png"), ("*/*", "image/png"), ("application/json", JSON),
        ("application/json;q=0.1, image/webp", "image/webp"), ("application/*", NPY),
        ("image/png;q=0, application/json", JSON), ("nonsense;q=x, application/json", JSON),
        ("image/png;q=0, */*", "image/webp"), ("image/*;q=0, */*", NPY),
        ("image/webp, image/*;q=0", "image/webp"),
    ],
)  # fmt: skip
def test_negotiation(accept: str | None, expected: str) -> None:
    assert negotiate(accept, ("image/png", "image/webp", NPY, JSON)) == expected
    with pytest.raises(RequestError, match="Accept: text/html, expected application/json"):
        negotiate("text/html", (JSON,))


def call_asgi(app: Any, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Send messages to an ASGI application, and then nothing more."""
    sent: list[dict[str, Any]] = []
    left = list(messages)

    async def receive() -> Any:
        return left.pop(0) if left else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/encode", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent


async def never(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("the request reached the application")


def test_a_slow_body_is_refused() -> None:
    part = {"type": "http.request", "body": b"x", "more_body": True}
    start, body = call_asgi(LimitRequests(never, LIMITS), part)
    assert start["status"] == 408
    assert json.loads(body["body"])["error"] == "the body took longer than 0.2 s"


def test_requests_beyond_the_queue_are_refused() -> None:
    app = LimitRequests(never, Limits(concurrency=1, waiting=1))
    app._active = 2
    start, body = call_asgi(app)
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert json.loads(body["body"])["error"] == "busy. Try again in a second."


def test_at_most_so_many_requests_run_at_a_time(cvae: vae.Autoencoder) -> None:
    running, most, lock = 0, 0, threading.Lock()
    sample = cvae.sample

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return sample(*args, **options)

    cvae.sample = counted  # type: ignore[method-assign]
    with TestClient(create_app(cvae, Limits(concurrency=2)), base_url="http://localhost") as client:
        threads = [threading.Thread(target=client.post, args=("/sample",)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most == 2


def test_limits_are_checked() -> None:
    with pytest.raises(vae.VaeError, match="images is 0, expected a number above 0"):
        Limits(images=0)


class Server:
    """`vae-run serve` as a process, on a free port."""

    def __init__(self, *args: str | Path) -> None:
        command = [sys.executable, "-m", "vae_runtime", "serve", "--port", "0", *map(str, args)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self.url = line.partition(" on ")[2].partition(" until")[0]
        assert self.url.startswith("http://127.0.0.1:"), line

    def post(self, path: str, body: bytes = b"{}", wait_s: float = 20) -> bytes:
        end = time.monotonic() + wait_s
        while True:
            try:
                with urllib.request.urlopen(self.url + path, body, timeout=60) as answer:
                    found: bytes = answer.read()
                    return found
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


@pytest.mark.skipif(os.name != "posix", reason="no signals to send")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_requests_in_progress_finish(cvae_path: Path, number: int, code: int) -> None:
    server = Server(cvae_path)
    server.post("/sample")
    found: list[bytes] = []
    body = json.dumps({"n": 256, "seed": 0}).encode()
    threads = [
        threading.Thread(target=lambda: found.append(server.post("/sample", body)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert server.stop(number) == code
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no signals to send")
def test_workers_share_the_port(cvae_path: Path) -> None:
    server = Server(cvae_path, "--workers", "2", "--max-images", "3")
    body = b'{"seed": 0, "label": 3}'
    assert len({server.post("/sample", body) for _ in range(20)}) == 1
    with pytest.raises(OSError, match="413"):
        server.post("/sample", b'{"n": 4}', wait_s=0)
    assert server.stop(signal.SIGTERM) == 0


def test_responses_are_not_delayed() -> None:
    """Without TCP_NODELAY, which asyncio sets by protocol, each response waits for 40 ms."""
    import socket

    from vae_runtime.cli.serve import _listen

    with _listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_taken_port_is_an_error(cvae_path: Path, run: Any) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", cvae_path, "--port", port)
    assert done.code == 6
    assert done.error == (
        f"error: 127.0.0.1:{port}: address already in use. Use another --host or --port."
    )
