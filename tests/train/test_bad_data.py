"""Data that `vae-train` refuses before training, with the complete error line for each."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.train.test_cli import refused


def idx(*shape: int, claimed: tuple[int, ...] | None = None) -> bytes:
    """An IDX file of zeros, whose header may claim another shape."""
    claimed = claimed or shape
    return (
        bytes([0, 0, 8, len(claimed)])
        + struct.pack(f">{len(claimed)}I", *claimed)
        + bytes(int(np.prod(shape)))
    )


def idx_folder(folder: Path, images: bytes, labels: bytes, *, gz: str = "") -> None:
    (folder / f"train-images-idx3-ubyte{gz}").write_bytes(images)
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)


def lying_header(folder: Path) -> str:
    idx_folder(folder, idx(6, 5, 4, claimed=(60, 5, 4)), idx(60))
    return (
        f"{folder}/train-images-idx3-ubyte: header declares 1200 bytes of data, "
        "the file has only 120"
    )


def lying_labels(folder: Path) -> str:
    idx_folder(folder, idx(6, 5, 4), idx(7, claimed=(6,)))
    return (
        f"{folder}/train-labels-idx1-ubyte: header declares 6 bytes of data, "
        "the file has more than that"
    )


def truncated_gzip(folder: Path) -> str:
    idx_folder(folder, gzip.compress(idx(60, 28, 28))[:-20], idx(60), gz=".gz")
    return f"{folder}/train-images-idx3-ubyte.gz: damaged or truncated gzip. Download it again."


def truncated_test_split(folder: Path) -> str:
    idx_folder(folder, idx(6, 5, 4), idx(6))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(60, 5, 4))[:-20])
    return f"{folder}/t10k-images-idx3-ubyte.gz: damaged or truncated gzip. Download it again."


def different_counts(folder: Path) -> str:
    idx_folder(folder, idx(6, 5, 4), idx(5))
    return f"{folder}/train-labels-idx1-ubyte: labels [5] for 6 images in train-images-idx3-ubyte"


def swapped_files(folder: Path) -> str:
    idx_folder(folder, idx(6), idx(6, 5, 4))
    return f"{folder}/train-images-idx3-ubyte: 1 dimensions, expected 3 (N, H, W) or 4"


def save_image(path: Path, height: int = 8, width: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width), np.uint8)
    Image.fromarray(pixels).save(path)


def unreadable_image(folder: Path) -> str:
    save_image(folder / "cat" / "a.png")
    (folder / "cat" / "b.png").write_text("not an image")
    return f"{folder}/cat/b.png: not an image. Expected PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM"


def damaged_image(folder: Path) -> str:
    save_image(folder / "cat" / "a.png", 64, 64)
    whole = (folder / "cat" / "a.png").read_bytes()
    (folder / "cat" / "b.png").write_bytes(whole[: len(whole) // 2])
    return f"{folder}/cat/b.png: truncated: the end of the PNG is missing"


def mixed_sizes(folder: Path) -> str:
    save_image(folder / "cat" / "a.png", 8, 9)
    save_image(folder / "dog" / "b.png", 8, 10)
    return (
        f"{folder}/dog/b.png: 8x10 pixels, expected 8x9 like a.png, as 1 of 2 images are. Resize "
        "all with --size 8x9, or --resize in vae-run."
    )


def loose_images(folder: Path) -> str:
    save_image(folder / "cat" / "a.png")
    save_image(folder / "loose.png")
    return f"{folder.name}: no labels, and a cvae needs them. Train ae or vae."


def empty_folder(folder: Path) -> str:
    return (
        f"{folder}: no images (.png .jpg .jpeg .jfif .webp .bmp .gif .tif .tiff .pgm .ppm) in it "
        "or its sub-folders"
    )


def no_labels(folder: Path) -> str:
    save_image(folder / "a.png")
    return f"{folder.name}: no labels, and a cvae needs them. Train ae or vae."


INPUT, USAGE, FILE = 3, 2, 6


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lying_header, INPUT),
        (lying_labels, INPUT),
        (truncated_gzip, INPUT),
        (truncated_test_split, INPUT),
        (different_counts, INPUT),
        (swapped_files, INPUT),
        (unreadable_image, INPUT),
        (damaged_image, INPUT),
        (mixed_sizes, INPUT),
        (loose_images, USAGE),
        (empty_folder, FILE),
        (no_labels, USAGE),
    ],
)
def test_unusable_folders_are_refused(
    make: Callable[[Path], str], code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "model.pt"
    data.mkdir()
    expected = make(data)
    assert refused(capfd, "cvae", "--data", data, "--out", out) == (code, f"error: {expected}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]  # no run folder was created


IMAGES = np.arange(384, dtype=np.uint8).reshape(6, 8, 8)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        (
            {"images": np.linspace(0, 255, 384).reshape(6, 8, 8)},
            "{data}: float images run from 0 to 255, expected [0, 1]. Divide by 255, or store "
            "uint8.",
        ),
        (
            {"images": np.full((6, 8, 8), np.nan)},
            "{data}: float images run from nan to nan, expected finite numbers in [0, 1]. Remove "
            "NaN and infinity.",
        ),
        ({"images": IMAGES, "labels": np.arange(5)}, "{data}: 5 labels for 6 images"),
        (
            {"images": IMAGES * 0, "labels": np.arange(6)},
            "data: all 6 images are black everywhere, so there is nothing to learn. Look at the "
            "files and at how they were read.",
        ),
        (
            {"images": IMAGES * 0 + 200, "labels": np.arange(6)},
            "data: all 6 images are the level 200 of 255 everywhere, so there is nothing to learn. "
            "Look at the files and at how they were read.",
        ),
        (
            {"images": np.repeat(IMAGES[:1], 6, 0), "labels": np.arange(6)},
            "data: all 6 images are the same, so there is nothing to learn.",
        ),
        (
            {"images": IMAGES % 17, "labels": np.arange(6)},
            "data: no pixel is brighter than 16 of 255. Scale the images so that white is 255; "
            "files of 16 bits that hold 12 need a factor of 16.",
        ),
    ],
)
def test_unusable_arrays_are_refused(
    arrays: dict[str, np.ndarray],
    expected: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, **arrays)  # type: ignore[arg-type]
    found = refused(capfd, "cvae", "--data", data, "--out", tmp_path / "model.pt")
    assert found == (INPUT, f"error: {expected.format(data=data)}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


def test_size_makes_mixed_sizes_usable(tmp_path: Path) -> None:
    from vae_train import load_checkpoint
    from vae_train.cli import cli

    mixed_sizes(tmp_path / "data")
    arguments = ("ae", "--data", tmp_path / "data", "--size", "8x9", "--epochs", "1", "--no-report")
    small = ("--backbone", "mlp", "--hidden", "4", "--latent-dim", "1", "--prior", "normal", "-q")
    out = tmp_path / "model.pt"
    cli([str(argument) for argument in (*arguments, *small, "--out", out)], standalone_mode=False)
    assert load_checkpoint(out).model.image_shape == (1, 8, 9)
