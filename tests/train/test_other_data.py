"""Data other than MNIST: train, export and run a small model on each kind."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

import vae_runtime
from vae_export.cli import cli as vae_export
from vae_runtime.cli import cli as vae_run
from vae_runtime.errors import InputError
from vae_train.cli import cli as vae_train

pytestmark = pytest.mark.slow

SMALL = ("--backbone", "mlp", "--hidden", "16", "--latent-dim", "3", "--batch-size", "16")
QUICK = ("--epochs", "2", "--components", "1", "-q")


def run(command: click.Command, *arguments: str | Path) -> Result:
    done = CliRunner().invoke(
        command, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done


def shapes(n: int, *shape: int, seed: int = 0) -> NDArray[np.uint8]:
    """Bright rectangles on black, u8[n, *shape]; something to learn, unlike noise."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, *shape), np.uint8)
    for image in images:
        top, left = rng.integers(0, shape[0] // 2), rng.integers(0, shape[1] // 2)
        image[top : top + shape[0] // 2, left : left + shape[1] // 2] = rng.integers(90, 256)
    return images


def idx(array: NDArray[np.uint8]) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes(), 1)


def fashion(folder: Path) -> Path:
    """The four files of Fashion-MNIST, gzipped, with its ten classes."""
    folder.mkdir()
    for split, n in (("train", 120), ("t10k", 40)):
        (folder / f"{split}-images-idx3-ubyte.gz").write_bytes(idx(shapes(n, 28, 28, seed=n)))
        labels = (np.arange(n) % 10).astype(np.uint8)
        (folder / f"{split}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    return folder


def image_folder(folder: Path, height: int, width: int, classes: tuple[str, ...]) -> Path:
    """A folder of color images with one sub-folder per class."""
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(shapes(24, height, width, 3, seed=k)):
            Image.fromarray(image).save(folder / name / f"{i}.png")
    return folder


def arrays(path: Path, n: int, *shape: int, classes: int = 0) -> Path:
    content: dict[str, Any] = {"images": shapes(n, *shape)}
    if classes:
        content["labels"] = np.arange(n) % classes
    np.savez(path, **content)
    return path


def train_and_export(folder: Path, *arguments: str | Path) -> tuple[vae_runtime.Autoencoder, Path]:
    """Train, export and verify; return the loaded bundle and its path."""
    run(vae_train, *arguments, *QUICK, "--out", folder / "model.pt")
    run(vae_export, "--ckpt", folder / "model.pt", "--out", folder / "bundle")
    run(vae_run, "verify", "-b", folder / "bundle")
    report = json.loads((folder / "model.run" / "report.json").read_text())
    assert report["measurements"]["mse"] > 0
    return vae_runtime.load(folder / "bundle"), folder / "bundle"


def sampled(bundle: Path, *arguments: str) -> tuple[str, tuple[int, int]]:
    """Write one sample as a PNG; return its mode and (H, W)."""
    out = bundle.with_name("sample.png")
    run(vae_run, "sample", "-b", bundle, "-n", "1", "--scale", "1", "-o", out, *arguments)
    with Image.open(out) as image:
        return image.mode, (image.height, image.width)


def test_fashion(tmp_path: Path) -> None:
    data = fashion(tmp_path / "fashion")
    model, bundle = train_and_export(tmp_path, "cvae", "--data", data, *SMALL)
    assert model.spec.classes == tuple("0123456789")
    assert sampled(bundle, "--label", "7") == ("L", (28, 28))
    done = run(vae_run, "evaluate", data, "-b", bundle, "--samples", "1", "--json")
    assert json.loads(done.stdout)["n"] == 40  # images in the test split


def test_color_images_of_32_by_32(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "pets", 32, 32, ("cat", "dog"))
    model, bundle = train_and_export(tmp_path, "cvae", "--data", data, *SMALL)
    assert (model.spec.image.shape, model.spec.classes) == ((3, 32, 32), ("cat", "dog"))
    assert sampled(bundle, "--label", "dog") == ("RGB", (32, 32))
    out = tmp_path / "both.png"
    run(vae_run, "reconstruct", data / "cat" / "0.png", "-b", bundle, "-l", "cat", "-o", out)
    assert out.exists()


def test_color_images_of_64_by_64_with_convolutions(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "pets", 64, 64, ("cat", "dog"))
    small = ("--hidden", "8,8,8", "--latent-dim", "4", "--batch-size", "16")
    model, bundle = train_and_export(tmp_path, "vae", "--data", data, *small)
    assert model.spec.image.shape == (3, 64, 64)
    assert sampled(bundle) == ("RGB", (64, 64))


def test_tall_images_with_convolutions(tmp_path: Path) -> None:
    data = arrays(tmp_path / "tall.npz", 48, 21, 10)
    small = ("--backbone", "conv", "--hidden", "8,8")
    model, bundle = train_and_export(tmp_path, "ae", "--data", data, *small)
    assert model.spec.image.shape == (1, 21, 10)
    assert sampled(bundle) == ("L", (21, 10))


def test_62_classes(tmp_path: Path) -> None:
    data = arrays(tmp_path / "letters.npz", 186, 16, 16, classes=62)
    model, bundle = train_and_export(tmp_path, "cvae", "--data", data, *SMALL)
    assert len(model.spec.classes) == 62
    assert sampled(bundle, "--label", "61") == ("L", (16, 16))
    with pytest.raises(InputError, match="62 is out of range, expected 0 to 61"):
        run(vae_run, "sample", "-b", bundle, "--label", "62")


def test_one_class_of_wide_images(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "wide", 12, 30, ("only",))
    model, bundle = train_and_export(tmp_path, "cvae", "--data", data, *SMALL)
    assert (model.spec.image.shape, model.spec.classes) == ((3, 12, 30), ("only",))
    assert sampled(bundle, "--label", "only") == ("RGB", (12, 30))
