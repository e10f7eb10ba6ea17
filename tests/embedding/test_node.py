"""Node: the helper's types, its pixels, the images of a seed, and refused input."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vae_runtime.verification import TOLERANCE

from .conftest import Open, skip_if_missing
from .host import EXAMPLES, ONE_THREAD, ROOT, call
from .node import HERE, node_app

pytestmark = pytest.mark.slow  # npm ci, once


@pytest.fixture(scope="module")
def app() -> Path:
    folder = skip_if_missing(node_app)
    assert isinstance(folder, Path)
    return folder


def test_the_helper_passes_the_type_checker(app: Path) -> None:
    call([app.parent / "node_modules" / ".bin" / "tsc"], cwd=app)


def test_the_lock_file_names_no_host_and_pins_the_runtime() -> None:
    lock = json.loads((EXAMPLES / "node" / "package-lock.json").read_text())
    packages = lock["packages"]
    assert packages["node_modules/onnxruntime-node"]["version"] == "1.30.0"
    assert not [name for name, entry in packages.items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in packages.items() if name)


@pytest.mark.parametrize("name", ["cvae_mlp", "cvae_conv", "vae_mlp", "ae_conv"])
def test_node_gives_the_pixels_of_torch_and_the_latents_of_python(
    app: Path, open_vectors: Open, name: str
) -> None:
    vectors = open_vectors(name)
    seed, label = 2**64 - 3, "3" if vectors.spec.classes else ""
    sampled = vectors.work / "sampled.f32"
    command = ["node", HERE / "drive.mjs", app / "vae.mjs", vectors.graph, *vectors.files]
    error, _ = vectors.drive([*command, str(seed), label, sampled])
    assert error <= TOLERANCE
    expected = vectors.spec.prior.sample(500, 3 if label else None, seed)
    found = np.fromfile(sampled, np.float32).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_node_samples_what_the_shell_samples(app: Path, open_vectors: Open, tmp_path: Path) -> None:
    import vae_runtime as vae

    vectors = open_vectors("cvae_conv")
    options = ["--label", "3", "--seed", "7", "-n", "5"]
    call(["node", app / "digits.mjs", vectors.graph, tmp_path / "threes.pgm", *options])
    raw = (tmp_path / "threes.pgm").read_bytes()
    head = b"P5\n40 8\n255\n"
    assert raw.startswith(head)
    pixels = np.frombuffer(raw[len(head) :], np.uint8).reshape(8, 5, 8).transpose(1, 0, 2)
    with vae.load(vectors.folder, device="cpu") as model:
        expected = model.sample(5, 3, seed=7, dtype="uint8")[:, 0]
    assert np.abs(pixels.astype(int) - expected).max() <= 1  # rounding


def test_the_code_of_the_page_opens_a_whole_bundle(
    app: Path, open_vectors: Open, tmp_path: Path
) -> None:
    vectors = open_vectors("cvae_mlp")
    page = (EXAMPLES / "node" / "README.md").read_text()
    lines = [line[4:] for line in page.splitlines() if re.match(r"    (import|const) ", line)]
    assert len(lines) == 3
    script = app / "whole.mjs"
    script.write_text(
        'import { readFile } from "node:fs/promises";\nimport ort from "onnxruntime-node";\n'
        + "\n".join(lines).replace('"cvae.zip"', "process.argv[2]")
        + "\nconsole.log((await model.golden()).maxAbsError, model.latentDim);\n"
    )
    source = ROOT / "tests" / "data" / "cvae_mlp.zip"
    error, dim = call(["node", script, source]).split()
    assert float(error) <= TOLERANCE
    assert int(dim) == vectors.spec.latent_dim


def test_node_refuses_in_one_line(app: Path, open_vectors: Open, tmp_path: Path) -> None:
    vectors = open_vectors("cvae_mlp")
    raw = bytearray(vectors.graph.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "flipped.onnx").write_bytes(raw)
    shutil.copy(vectors.folder / "encoder.onnx", tmp_path / "encoder.onnx")
    (tmp_path / "text.onnx").write_text("not a graph")
    good = str(vectors.graph)
    refused = {
        (good, "x.pgm", "--label", "x"): "error: label: unknown class 'x', expected one of: 0, 1,",
        (good, "x.pgm", "--seed", "1.5"): "error: seed is 1.5, expected a whole number from 0 to",
        (good, "x.pgm", "-n", "-1"): "error: ",
        ("flipped.onnx", "x.pgm"): "error: flipped.onnx: damaged: its bytes do not match",
        ("encoder.onnx", "x.pgm"): "error: encoder.onnx: the role of this graph is encoder",
        ("text.onnx", "x.pgm"): "error: text.onnx: ",
        ("no.onnx", "x.pgm"): "error: ENOENT: no such file or directory, open 'no.onnx'",
    }
    for args, message in refused.items():
        done = subprocess.run(
            ["node", app / "digits.mjs", *args], cwd=tmp_path, env=ONE_THREAD,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode != 0, args
        assert done.stderr.startswith(message), done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "x.pgm").exists()
