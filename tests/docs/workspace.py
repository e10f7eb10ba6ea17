"""A folder with the files that the examples on pages and in `--help` use, and a small shell."""

from __future__ import annotations

import gzip
import importlib.util
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from tests.normality import with_normality
from tests.runtime.conftest import DATA, Run
from tests.runtime.test_detection import parts as write_parts
from vae_runtime.bundle import reader as bundle
from vae_runtime.datasets import Dataset
from vae_runtime.images import encode_image, read_image
from vae_runtime.studio import fetch

# What a line needs: a word of it, a package and the extra that installs it.
NEEDS = (
    ("vae-run batch", "pyarrow", "arrow"), ("vae-run serve", "fastapi", "serve"),
    ("--curves", "sklearn", "detect"), ("--curves", "matplotlib", "detect"),
    ("--probe", "sklearn", "detect"), ("compress", "constriction", "compress"),
)  # fmt: skip


@pytest.fixture
def examples(
    cvae_path: Path, vae_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Make a folder with the files that the examples use, and the embedded bundles."""
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    (embedded / "mnist.zip").write_bytes(cvae_path.read_bytes())
    (embedded / "fashion.zip").write_bytes((bundle.EMBEDDED / "fashion.zip").read_bytes())
    monkeypatch.setattr(bundle, "EMBEDDED", embedded)
    folder = tmp_path / "work"
    folder.mkdir()
    for source, name in ((cvae_path, "cvae"), (vae_path, "vae")):
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder / name)
    (folder / "conditional_decoder.onnx").write_bytes(
        (folder / "cvae" / "conditional_decoder.onnx").read_bytes()
    )
    with vae.load(cvae_path) as model:
        labels = np.arange(20) % 10
        images = model.sample(20, labels, seed=0, dtype="uint8")
        latents = model.encode(images, labels)
    for sub in ("digits", "new", "photos"):
        (folder / sub).mkdir()
        for i in range(4):
            (folder / sub / f"{i}.png").write_bytes(encode_image(images[i]))
    for i, name in enumerate(("digit", "one", "seven", "photo")):
        (folder / f"{name}.png").write_bytes(encode_image(images[i]))
    np.save(folder / "z.npy", latents[:2])
    np.save(folder / "latents.npy", latents)
    np.savez(folder / "latents.npz", z=latents, labels=labels)
    np.savez(folder / "samples.npz", z=latents)
    data = Dataset("digits", images, labels, tuple("0123456789"))
    header = bytes([0, 0, 8, 3, *(20).to_bytes(4), *(8).to_bytes(4), *(8).to_bytes(4)])
    idx = header + images.tobytes()
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))

    write_parts(folder / "bottle")
    (folder / "scans").symlink_to(folder / "digits")
    (folder / "good").symlink_to(folder / "bottle" / "train" / "good")
    good = np.stack([read_image(path) for path in sorted((folder / "good").iterdir())])
    for name in ("parts.zip", "bottle.zip"):
        with_normality(vae_path, folder / name, good)

    if importlib.util.find_spec("pyarrow"):
        from vae_runtime.datasets.parquet import write_dataset

        (folder / "data").mkdir()
        (folder / "cifar10").mkdir()
        for name in ("train", "test"):
            write_dataset(data, folder / f"cifar10/{name}.parquet")
        for name in ("digits.parquet", "mnist.parquet", "data/0.parquet", "data/1.parquet"):
            write_dataset(Dataset(name, images, labels, tuple("0123456789")), folder / name)

    # The real data sets need the network or scikit-learn. Replace the loaders in their own module:
    # other modules may have imported `load_dataset` already.
    monkeypatch.setattr("vae_runtime.datasets.load._load_named", lambda *_: data)
    monkeypatch.setattr("vae_runtime.studio.serve.StudioServer.serve_forever", lambda _: None)
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    if importlib.util.find_spec("uvicorn"):
        monkeypatch.setattr("uvicorn.Server.run", lambda _, sockets: None)
        monkeypatch.setattr("uvicorn.run", lambda *_, **__: None)
        monkeypatch.setattr("vae_runtime.cli.serve._leave_signals_to_uvicorn", lambda: None)
    return folder


def execute(run: Run, folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a shell line in `folder`: commands, pipes and an output redirection."""
    if line.startswith("vae-run studio") and not fetch.present():
        pytest.skip(f"no onnxruntime-web: run {fetch.COMMAND}")
    for option, package, extra in NEEDS:
        if option in line:
            pytest.importorskip(package, reason=f"{package} is not installed: the extra {extra}")
    if line.startswith("vae-run serve"):
        line = re.sub(r" --port \d+|$", " --port 0", line, count=1)
    monkeypatch.chdir(folder)
    _make_bundles(folder, line)
    if "decompress" in line:
        bundle_options = re.findall(r"-b \S+", line)
        run("compress", "digits/", "-o", "digits.vaez", *" ".join(bundle_options).split())
    # Use threads, because processes take seconds to start, and keep measurements short.
    line = line.replace("--workers 2", "--threads 2")
    line = line.replace("vae-run bench", "vae-run bench --seconds 0.01")
    line, _, target = line.partition(" > ")
    stdin = b""
    for command in line.split(" | "):
        words = shlex.split(command)
        assert words[0] == "vae-run"
        done = run(*words[1:], stdin=stdin)
        if done.code == 7 and "--device cuda" in line:
            return  # the expected error where there is no CUDA device
        assert done.code == 0, (line, done.err)
        assert "error" not in done.err.split(":")[0]
        stdin = done.out
    if target:
        Path(target).write_bytes(stdin)
    out = re.search(r" -o (\S+)", line.rpartition(" | ")[2])
    if out and out[1] != "-":
        assert Path(out[1]).exists(), line


def _make_bundles(folder: Path, line: str) -> None:
    """Unpack a small bundle for each name that the line uses, such as `ae` or `runs/cvae`."""
    for name in re.findall(r"(?:--bundle|-b) ([\w./-]+)", line):
        path = folder / name
        if not path.exists():
            family = re.match(r"c?vae|ae", path.name)
            source = f"{family[0] if family else 'cvae'}_{'mlp' if name[0] == 'a' else 'conv'}.zip"
            with zipfile.ZipFile(DATA / source) as archive:
                archive.extractall(path)
