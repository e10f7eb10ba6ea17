"""Inputs of commands: sizes, labels from sub-folders, empty arrays, ambiguous names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.images import encode_image

from .conftest import Run, unpack

pytestmark = pytest.mark.torch_free


@pytest.fixture
def classes(cvae: vae.Autoencoder, tmp_path: Path) -> Path:
    """A folder with a sub-folder for each of three classes, and the hidden files of macOS."""
    for label in (3, 7, 9):
        (tmp_path / f"by/{label}").mkdir(parents=True)
        image = cvae.sample(1, label, seed=label, dtype="uint8")[0]
        (tmp_path / f"by/{label}/a.png").write_bytes(encode_image(image))
        (tmp_path / f"by/{label}/._a.png").write_bytes(b"no image")
    return tmp_path / "by"


def test_sub_folders_are_labels(
    run: Run, classes: Path, cvae: vae.Autoencoder, cvae_path: Path
) -> None:
    assert run("encode", classes, "-b", cvae_path, "-o", "z.npz").code == 0
    images = np.concatenate([cvae.sample(1, k, seed=k, dtype="uint8") for k in (3, 7, 9)])
    with np.load("z.npz") as file:
        assert file["labels"].tolist() == [3, 7, 9]
        assert np.array_equal(file["z"], cvae.encode(images, [3, 7, 9]))
    found = json.loads(run("evaluate", classes, "-b", cvae_path, "--json").out)
    assert (found["n"], found["labels"]) == (3, True)
    (classes / "cat").mkdir()
    Image.new("L", (8, 8)).save(classes / "cat/a.png")
    found = json.loads(run("evaluate", classes, "-b", cvae_path, "--json").out)
    assert (found["n"], found["labels"]) == (4, False)  # a class that the model does not have


@pytest.mark.parametrize("command", ["encode", "score", "evaluate", "reconstruct"])
def test_resize(run: Run, cvae_path: Path, command: str) -> None:
    Image.new("RGB", (40, 30), "red").save("x.png")
    done = run(command, "x.png", "-b", cvae_path, "--json")
    assert done.err.splitlines()[-1] == (
        "error: x.png: 30×40 pixels, 1 channel; the model takes 8×8, 1. Use --resize."
    )
    assert run(command, "x.png", "-b", cvae_path, "--json", "--resize").code == 0


def test_images_are_resized_as_in_training(
    run: Run, cvae: vae.Autoencoder, cvae_path: Path
) -> None:
    from vae_runtime.datasets import load_dataset

    wide = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
    Path("one").mkdir()
    Image.fromarray(wide).save("one/x.png")
    Image.new("L", (8, 8)).save("y.png")
    data = load_dataset("one", size=(8, 8))
    assert run("encode", "one", "-b", cvae_path, "--resize", "-o", "z.npy").code == 0
    assert np.array_equal(np.load("z.npy"), cvae.encode(data.images))
    for words in (("interpolate", "one/x.png", "y.png"), ("traverse", "--from", "one/x.png")):
        assert run(*words, "-b", cvae_path).code == 3
        assert run(*words, "-b", cvae_path, "--resize").code == 0


def test_empty_input_is_refused_in_one_line(run: Run, cvae_path: Path) -> None:
    np.save("i0.npy", np.zeros((0, 8, 8), np.uint8))
    np.save("z0.npy", np.zeros((0, 6), np.float32))
    for words in (("reconstruct", "i0.npy"), ("score", "i0.npy"), ("traverse", "--from", "i0.npy")):
        done = run(*words, "-b", cvae_path)
        assert (done.code, done.error) == (3, "error: i0.npy: no images, expected at least one")
    with vae.load(cvae_path) as model:
        np.save("z0.npy", np.zeros((0, model.spec.latent_dim), np.float32))
    for words in (("decode", "z0.npy", "-o", "z.png"), ("sample", "--latents", "z0.npy")):
        done = run(*words, "-b", cvae_path)
        assert done.code == 3
        assert done.error == "error: no images to draw, expected at least one"
    assert run("decode", "z0.npy", "-o", "z.npy", "-b", cvae_path).code == 0
    assert len(np.load("z.npy")) == 0


def test_data_called_mnist_does_not_hide_the_embedded_bundle(run: Run, vae_path: Path) -> None:
    Path("mnist").mkdir()
    Path("mnist/train-images-idx3-ubyte").touch()
    assert json.loads(run("info", "--json").out)["family"] == "cvae"
    assert run("sample", "--digit", 3).code == 0
    unpack(vae_path, Path("mnist"))
    Path("mnist/train-images-idx3-ubyte").unlink()
    assert json.loads(run("info", "mnist", "--json").out)["family"] == "vae"


def test_a_checkpoint_or_a_graph_in_place_of_a_bundle(run: Run) -> None:
    for name, words in (
        ("cvae.pt", "a checkpoint, not a bundle. Run vae-export --ckpt on it first."),
        ("x.onnx", "one graph, not a bundle. Pass the bundle's folder; in Python, use "
                   "vae.Decoder."),
    ):  # fmt: skip
        Path(name).write_bytes(b"PK\x03\x04")
        done = run("sample", "-b", name)
        assert (done.code, done.error) == (3, f"error: {name}: {words}")


def test_names_that_are_not_valid_text(run: Run, cvae_path: Path, digits: Path) -> None:
    name = "p\udcff.png"  # a byte that is not UTF-8
    Path(name).write_bytes((digits / "00.png").read_bytes())
    done = run("score", name, "-b", cvae_path)
    assert (done.code, b"p\\udcff.png" in done.out) == (0, True)
    done = run("sample", "-b", cvae_path, "-o", "q\udcff.png", "--json")
    assert (done.code, json.loads(done.out)["out"]) == (0, "q\udcff.png")


def test_info_prints_no_control_characters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_runtime.cli import info

    monkeypatch.setattr(info, "_bundle", lambda _: ([("classes", "\x1b[31mred\n")], {}))
    assert run("info").out == b"classes   [31mred \n"
