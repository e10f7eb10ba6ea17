"""Python hosts: the Pillow script, onnxruntime alone, the web app."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.verification import TOLERANCE

from .conftest import Open
from .host import EXAMPLES, ONE_THREAD, call, load_example

SHEET = EXAMPLES / "pillow_script" / "sheet.py"
DIGIT = EXAMPLES / "bare_onnxruntime" / "digit.py"


def test_a_bundle_and_its_copied_decoder_give_the_same_sheet(
    open_vectors: Open, tmp_path: Path
) -> None:
    vectors = open_vectors("cvae_conv")
    copied = tmp_path / "elsewhere" / "conditional_decoder.onnx"
    copied.parent.mkdir()
    copied.write_bytes(vectors.graph.read_bytes())
    options = ["--label", "3", "--seed", "5", "-n", "11"]
    call([sys.executable, SHEET, "--bundle", vectors.folder, *options, tmp_path / "a.png"])
    call([sys.executable, SHEET, "--graph", copied, *options, tmp_path / "b.png"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    assert sheet.shape == (2 * 8 + 2, 8 * 8 + 7 * 2)
    with vae.load(vectors.folder, device="cpu") as model:
        images = model.sample(11, 3, seed=5, dtype="uint8")
    assert np.array_equal(sheet[:8, :8], images[0, 0])
    assert np.array_equal(sheet[10:, 20:28], images[10, 0])


def test_the_script_fails_in_one_line(open_vectors: Open, tmp_path: Path) -> None:
    vectors = open_vectors("cvae_mlp")
    for args, message in (
        (("--label", "x"), "error: label: unknown class 'x', expected one of: 0, 1, 2,"),
        (("--bundle", "nowhere"), "error: nowhere: no such bundle."),
        (("--graph", "no.onnx"), "error: no.onnx: no such file."),
    ):
        done = subprocess.run(
            [sys.executable, SHEET, "--bundle", vectors.folder, *args, tmp_path / "x.png"],
            capture_output=True, text=True, check=False, env=ONE_THREAD,
        )  # fmt: skip
        assert done.returncode == 1
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["cvae_conv", "cvae_mlp", "ae_conv", "vae_mlp"])
def test_onnxruntime_alone_draws_an_image(open_vectors: Open, name: str, tmp_path: Path) -> None:
    vectors = open_vectors(name)
    call([sys.executable, DIGIT, vectors.folder / "sampler.onnx", "3", tmp_path / "three.pgm"])
    assert (tmp_path / "three.pgm").read_bytes().startswith(b"P5 8 8 255\n")
    image = np.asarray(Image.open(tmp_path / "three.pgm"))
    assert image.shape == (8, 8)
    assert image.max() > 128


@pytest.fixture
def client(open_vectors: Open) -> Iterator[Any]:
    pytest.importorskip("flask")
    with vae.load(open_vectors("cvae_conv").folder, device="cpu") as model:
        yield load_example("web_app/app.py").create_app(model).test_client()


def test_the_web_app_shows_the_same_images_as_python(client: Any, open_vectors: Open) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert 'src="/sample.png?n=16&amp;seed=0&amp;label="' in page.text
    assert page.text.count("<option") == 11
    found = client.get("/sample.png?label=3&seed=0&n=10")
    assert found.mimetype == "image/png"
    sheet = np.asarray(Image.open(io.BytesIO(found.data)))
    with vae.load(open_vectors("cvae_conv").folder, device="cpu") as model:
        images = model.sample(10, 3, seed=0, dtype="uint8")
    assert sheet.shape == (16, 64)
    assert np.array_equal(sheet[8:, 8:16], images[9, 0])
    description = client.get("/api/model").json
    assert description["classes"] == list("0123456789")
    assert description["image"] == [1, 8, 8]


def test_the_json_api_gives_the_pixels_of_torch(client: Any, open_vectors: Open) -> None:
    vectors = open_vectors("cvae_conv")
    labelled = vectors.labelled
    body = {"z": vectors.z[labelled].tolist(), "label": vectors.label[labelled].tolist()}
    images = np.array(client.post("/api/decode", json=body).json["images"])
    assert np.abs(images - vectors.image[labelled]).max() <= TOLERANCE
    one = client.post("/api/decode", json={"z": vectors.z[0].tolist(), "label": "3"})
    assert np.shape(one.json["images"]) == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/sample.png?label=eleven", "label: unknown class 'eleven', expected one of: 0, 1, 2, "),
        ("/sample.png?label=10", "label: 10 is out of range, expected 0 to 9"),
        ("/sample.png?n=0", "n is '0', expected a whole number from 1 to 256"),
        ("/sample.png?n=1e9", "n is '1e9', expected a whole number from 1 to 256"),
        (
            "/sample.png?seed=-1",
            "seed is '-1', expected a whole number from 0 to 18446744073709551",
        ),
        ("/sample.png?seed=" + "9" * 5000, "seed is '9999999999999999999999999999999999999999', "),
    ],
)
def test_a_bad_query_is_400_in_one_line(client: Any, path: str, message: str) -> None:
    found = client.get(path)
    assert found.status_code == 400
    assert found.json["error"].startswith(message)
    assert "\n" not in found.json["error"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", 'expected {"z": [[…], …], "label": …}'),
        ('{"label": 1}', 'expected {"z": [[…], …], "label": …}'),
        ('{"z": [[1, 2]], "lable": 1}', 'expected {"z": [[…], …], "label": …}'),
        ('{"z": [[1, 2]]}', "z: shape [1, 2], expected [N, 6]"),
        ('{"z": [[1], [1, 2]]}', "z: lists of different lengths"),
        ('{"z": [["a", 2, 3, 4, 5, 6]]}', "z: expected numbers only"),
        ('{"z": [[NaN, 2, 3, 4, 5, 6]]}', "z: nan at [0, 0], expected finite"),
        ('{"z": [[1e99, 2, 3, 4, 5, 6]]}', "z: inf at [0, 0], expected finite"),
        ('{"z": [[1, 2, 3, 4, 5, 6]], "label": 10}', "label: 10 is out of range"),
        ('{"z": [[1, 2, 3, 4, 5, 6]], "label": 1.5}', "label: 1.5, expected a class index or name"),
        ('{"z": [[1, 2, 3, 4, 5, 6]], "label": [1, 2]}', "label: 2 labels for 1 item, expected"),
        ('{"z": [[1, 2, 3, 4, 5, 6]], "label": {}}', "label: {}, expected a class index or name"),
        ('{"z": [[1, 2,', "The browser (or proxy) sent a request that this server could not"),
        ('{"z": [' + "[0, 0, 0, 0, 0, 0], " * 256 + "[0, 0, 0, 0, 0, 0]]}", "z: 257 latents, exp"),
    ],
)
def test_a_bad_body_is_400_in_one_line(client: Any, body: str, message: str) -> None:
    found = client.post("/api/decode", data=body, content_type="application/json")
    assert found.status_code == 400, found.text
    assert found.json["error"].startswith(message)
    assert "\n" not in found.json["error"]


def test_other_wrong_requests_are_json_errors(client: Any) -> None:
    wrong = {
        404: client.get("/nothing"),
        405: client.get("/api/decode"),
        415: client.post("/api/decode", data="z=1"),
        413: client.post("/api/decode", data=b"[" * (1 << 21), content_type="application/json"),
    }
    for code, found in wrong.items():
        assert found.status_code == code
        assert set(found.json) == {"error"}


def test_one_model_serves_many_threads(client: Any) -> None:
    expected = [client.get(f"/sample.png?label={i}&seed=1&n=20").data for i in range(4)]
    found: dict[int, list[bytes]] = {i: [] for i in range(4)}

    def ask(i: int) -> None:
        own = client.application.test_client()
        found[i] += [own.get(f"/sample.png?label={i}&seed=1&n=20").data for _ in range(10)]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == [expected[i]] * 10 for i in range(4))
