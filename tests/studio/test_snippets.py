"""Run the programs that the page offers to copy, and compare their pixels with Python's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.studio.fetch import HERE

DATA = Path(__file__).parent.parent / "data"
CASES = [("cvae_mlp", 3), ("cvae_mlp", None), ("vae_conv", None), ("cvae_mlp", "morph")]
LABELS, SHARE = (1, 8), 0.25  # of the morph: three quarters of the 1, one of the 8
Case = tuple[str, int | str | None, Path]
# onnxruntime-web replaces onnxruntime-node: it has the same API and is already here.
WEB = """import {{ readFileSync as read }} from "node:fs";
import {{ gunzipSync }} from "node:zlib";
import * as ort from {module};
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = gunzipSync(read({wasm}));
"""


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """A bundle, a label, and a folder with the bundle's graphs."""
    name, label = request.param
    bundle = open_bundle(str(DATA / f"{name}.zip"))
    for file, raw in bundle.read_all().items():
        (tmp_path / file).write_bytes(raw)
    return name, label, tmp_path


def latents(name: str) -> np.ndarray:
    """Latents for the programs below; one number is 0, and one is tiny."""
    z = vae.load(str(DATA / f"{name}.zip")).sample_latents(1, seed=3)[0]
    z[:2] = 0, 1e-7
    return z


def program(studio: Path, language: str, name: str, label: int | str | None) -> str:
    """Let `ui/snippets.js` write a program."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    path = DATA / f"{name}.zip"
    spec = vae.load(str(path)).spec
    image = {"channels": 1, "height": spec.image.height, "width": spec.image.width}
    model = {"name": str(path), "latentShape": list(spec.latent_shape), "image": image,
             "classes": spec.classes}  # fmt: skip
    mix = {"label": LABELS[1], "share": SHARE} if label == "morph" else None
    chosen = LABELS[0] if label == "morph" else label
    given = json.dumps([language, model, latents(name).tolist(), chosen, mix])
    script = f"""
        import {{ snippet }} from {json.dumps((studio / "ui" / "snippets.js").as_uri())};
        const [language, model, z, label, mix] = {given};
        process.stdout.write(snippet(language, model, {{ z: Float32Array.from(z), label, mix }}));
    """
    done = subprocess.run(
        [node, "--no-warnings", "--input-type=module", "-e", script],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def check(path: Path, name: str, label: int | str | None) -> None:
    """Compare an image with Python's; another kernel may round a pixel to the next level."""
    model, z = vae.load(str(DATA / f"{name}.zip")), latents(name)
    if label == "morph":
        first, other = (model.decode(z, label=index) for index in LABELS)
        expected = np.rint(255 * ((1 - SHARE) * first + SHARE * other)).astype(np.uint8)
    else:
        expected = model.decode(z, label=label, dtype="uint8")
    with Image.open(path) as image:
        found = np.asarray(image)
    assert found.shape == expected[0, 0].shape
    assert np.abs(found.astype(int) - expected[0, 0].astype(int)).max() <= 1


def test_python(case: Case) -> None:
    name, label, folder = case
    text = program(HERE, "python", name, label)
    subprocess.run([sys.executable, "-c", text], cwd=folder, check=True)
    check(folder / "image.png", name, label)


def test_javascript(studio_folder: Path, case: Case) -> None:
    name, label, folder = case
    text = program(studio_folder, "javascript", name, label)
    line = 'import * as ort from "onnxruntime-node";\n'
    assert line in text
    assets = studio_folder / "assets"
    module = json.dumps((assets / "ort.min.mjs").as_uri())
    web = WEB.format(module=module, wasm=json.dumps(str(assets / "ort-wasm.gz.bin")))
    # onnxruntime-web loads from URLs, not from disk, so the program passes the bytes.
    text = re.sub(r'create\((".*?")\)', r"create(read(\1))", text.replace(line, web))
    (folder / "image.mjs").write_text(text)
    subprocess.run([shutil.which("node") or "node", "image.mjs"], cwd=folder, check=True)
    check(folder / "image.pgm", name, label)


def test_c(case: Case) -> None:
    name, label, folder = case
    compiler, config = shutil.which("cc"), shutil.which("pkg-config")
    if compiler is None or config is None:
        pytest.skip("no C compiler with pkg-config")
    flags = subprocess.run(
        [config, "--cflags", "--libs", "libonnxruntime"],
        capture_output=True,
        text=True,
        check=False,
    )
    if flags.returncode:
        pytest.skip("no libonnxruntime for C: its header is in no Python package")
    (folder / "image.c").write_text(program(HERE, "c", name, label))
    build = [compiler, "-Wall", "-Werror", "image.c", *flags.stdout.split(), "-lm", "-o", "image"]
    subprocess.run(build, cwd=folder, check=True)
    raw = subprocess.run(["./image"], cwd=folder, capture_output=True, check=True).stdout
    (folder / "image.pgm").write_bytes(raw)
    check(folder / "image.pgm", name, label)
