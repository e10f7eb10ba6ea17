"""A client of the Open Inference Protocol (version 2, REST), with checks for any server.

    python -m tests.embedding.inference_protocol http://127.0.0.1:8080 vae

checks a running server.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """Status and JSON body of one response; None for an empty body."""

    status: int
    body: Any

    @property
    def refused(self) -> bool:
        """Whether the request was refused as the client's error, with a reason.

        Triton answers 500 if the JSON cannot be parsed, before the model sees the request.
        """
        parsing = self.status == 500 and "parse" in self.reason
        return bool(self.reason) and (400 <= self.status < 500 or parsing)

    @property
    def reason(self) -> str:
        """The server's error message."""
        found = self.body if isinstance(self.body, dict) else {}
        return str(found.get("error") or found.get("detail") or "")


class Client:
    """One model of one server."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url.rstrip("/"), model

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(f"{self.url}{path}"))

    def post(self, raw: bytes, model: str | None = None) -> Answer:
        """Post any body to the model's `infer`."""
        url = f"{self.url}/v2/models/{model or self.model}/infer"
        return self._send(urllib.request.Request(url, raw, {"Content-Type": "application/json"}))

    def infer(self, *inputs: Tensor) -> Answer:
        return self.post(json.dumps({"inputs": inputs}).encode())

    def decode(self, z: NDArray[np.float32], label: NDArray[np.int64] | None) -> NDArray[Any]:
        """Decode latents f32[N, D] with labels i64[N] to images f32[N, C, H, W]."""
        inputs = [tensor("z", "FP32", z)]
        if label is not None:
            inputs.append(tensor("label", "INT64", label.reshape(self.label_shape(len(label)))))
        answer = self.infer(*inputs)
        assert answer.status == 200, answer
        image = next(o for o in answer.body["outputs"] if o["name"] == "image")
        assert image["datatype"] == "FP32"
        return np.array(image["data"], np.float32).reshape(image["shape"])

    def sample(self, noise: NDArray[np.float32], label: NDArray[np.int64]) -> dict[str, Any]:
        """Turn standard normals f32[N, D + 1] into images and latents, by name."""
        given = tensor("label", "INT64", label.reshape(self.label_shape(len(label))))
        answer = self.infer(tensor("noise", "FP32", noise), given)
        assert answer.status == 200, answer
        return {
            o["name"]: np.array(o["data"], np.float32).reshape(o["shape"])
            for o in answer.body["outputs"]
        }

    def metadata(self) -> dict[str, Any]:
        """Get the model's name, inputs and outputs."""
        answer = self.get(f"/v2/models/{self.model}")
        assert answer.status == 200, answer
        found: dict[str, Any] = answer.body
        return found

    def label_shape(self, n: int) -> list[int]:
        """The shape of n labels: [N], or [N, 1] for servers without scalars."""
        label = next(t for t in self.metadata()["inputs"] if t["name"] == "label")
        return [n, 1][: len(label["shape"])]

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, _json(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _json(error.read()))


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return {"error": raw.decode(errors="replace")}


def tensor(name: str, datatype: str, values: NDArray[Any]) -> Tensor:
    """Make an input of a request."""
    return {
        "name": name, "datatype": datatype, "shape": list(values.shape),
        "data": values.ravel().tolist(),
    }  # fmt: skip


def check_health(client: Client) -> None:
    """Check liveness, readiness of server and model, and the metadata of both."""
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{client.model}/ready"):
        assert client.get(path).status == 200, path
    server = client.get("/v2").body
    assert {"name", "version"} <= set(server)
    found = client.metadata()
    assert found["name"] == client.model
    names = [t["name"] for t in found["inputs"]]
    assert names[0] == "z"
    assert set(names) <= {"z", "noise", "label"}
    image = found["outputs"][0]
    assert (image["name"], image["datatype"], image["shape"][0]) == ("image", "FP32", -1)
    assert client.get("/v2/models/no-such-model").status in (400, 404)


def send_wrong_requests(client: Client, max_rows: int) -> Iterator[tuple[str, Answer]]:
    """Send requests that must be refused; yield what is wrong with each, and the answer.

    Args:
        client: of a model with classes.
        max_rows: the most rows that one request may have.
    """
    shapes = {t["name"]: t["shape"] for t in client.metadata()["inputs"]}
    d = shapes["z"][1]
    z = tensor("z", "FP32", np.zeros((1, d), np.float32))

    def label(value: Any, kind: str = "INT64", n: int = 1) -> Tensor:
        shape = client.label_shape(n)
        return {"name": "label", "datatype": kind, "shape": shape, "data": [value] * n}

    three = label(3)
    narrow = tensor("z", "FP32", np.zeros((1, d - 1), np.float32))
    flat = tensor("z", "FP32", np.zeros(d, np.float32))
    rows = tensor("z", "FP32", np.zeros((max_rows + 1, d), np.float32))
    yield "latents with too few dimensions", client.infer(narrow, three)
    yield "latents without a batch axis", client.infer(flat, three)
    yield "fewer numbers than the shape needs", client.infer(z | {"shape": [2, d]}, label(3, n=2))
    yield "doubles for z", client.infer(z | {"datatype": "FP64"}, three)
    yield "text for numbers", client.infer(z | {"data": ["a"] * d}, three)
    yield "a float label", client.infer(z, label(3.0, "FP32"))
    yield "a label after the last", client.infer(z, label(1000))
    yield "a negative label", client.infer(z, label(-1))
    yield "two labels for one latent vector", client.infer(z, label(3, n=2))
    yield "an unknown input", client.infer(z, three | {"name": "lable"})
    yield "an input twice", client.infer(z, z, three)
    yield "no z", client.infer(three)
    if "noise" in shapes:
        noise = tensor("noise", "FP32", np.zeros((1, d + 1), np.float32))
        short = tensor("noise", "FP32", np.zeros((1, d), np.float32))
        yield "noise with too few numbers", client.infer(short, three)
        yield "latents and noise", client.infer(z, noise, three)
    yield "no inputs", client.infer()
    yield "too many rows", client.infer(rows, label(3, n=max_rows + 1))
    yield "an unknown model", client.post(json.dumps({"inputs": [z]}).encode(), "no-such-model")


def main() -> None:
    """Check a server by URL and model name; print what it refuses."""
    client = Client(*sys.argv[1:3])
    check_health(client)
    for what, answer in send_wrong_requests(client, 1024):
        print(f"{'refused' if answer.refused else 'ACCEPTED':<8} {what}: {answer.reason[:90]}")


if __name__ == "__main__":
    main()
