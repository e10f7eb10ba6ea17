"""Photographs of a woven texture, good and with defects, in the layout of MVTec AD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
DEFECTS = ("scratch", "spot", "missing")


def weave(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw one photograph f64[SIZE, SIZE, 3] in [0, 1]: threads over and under, light, noise."""
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    pitch = 8.0
    u, v = (x + rng.normal(0, 0.6)) / pitch, (y + rng.normal(0, 0.6)) / pitch
    over = (np.floor(u) + np.floor(v)) % 2
    across, along = np.sin(np.pi * (u % 1)), np.sin(np.pi * (v % 1))
    thread = np.where(over > 0, across * (0.6 + 0.4 * along), along * (0.6 + 0.4 * across))
    light = 0.75 + 0.15 * (x * rng.normal() + y * rng.normal()) / SIZE
    colour = np.array([0.85, 0.72, 0.5]) * (1 + rng.normal(0, 0.03, 3))
    image = thread[..., None] * light[..., None] * colour + 0.08
    return (image + rng.normal(0, 0.02, image.shape)).clip(0, 1)


def damage(
    image: NDArray[np.float64], kind: str, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Add a defect; return the image and its mask bool[SIZE, SIZE]."""
    y, x = np.mgrid[:SIZE, :SIZE]
    cy, cx = rng.uniform(14, SIZE - 14, 2)
    if kind == "scratch":
        angle = rng.uniform(0, np.pi)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        mask = (abs(along) < rng.uniform(8, 14)) & (abs(across) < 1.2)
        value = np.full(3, rng.uniform(0.8, 0.95))
    elif kind == "spot":
        mask = np.hypot(x - cx, y - cy) < rng.uniform(3, 6)
        value = np.array([0.25, 0.12, 0.08])
    else:
        mask = (abs(x - cx) < rng.uniform(4, 7)) & (abs(y - cy) < rng.uniform(4, 7))
        value = np.full(3, 0.06)
    result = image.copy()
    result[mask] = 0.15 * image[mask] + 0.85 * value
    return result, mask


def write_photographs(folder: Path, good: int, test: int, seed: int = 0) -> None:
    """Write `train/good`, `test/good`, `test/DEFECT` and `ground_truth/DEFECT`.

    Args:
        folder: where to write.
        good: number of training images.
        test: number of test images of each kind.
        seed: seed of everything.
    """
    rng = np.random.default_rng(seed)
    for i in range(good):
        _write(folder / "train" / "good" / f"{i:03}.png", weave(rng))
    for i in range(test):
        _write(folder / "test" / "good" / f"{i:03}.png", weave(rng))
        for kind in DEFECTS:
            image, mask = damage(weave(rng), kind, rng)
            _write(folder / "test" / kind / f"{i:03}.png", image)
            _write(folder / "ground_truth" / kind / f"{i:03}_mask.png", mask.astype(float))


def _write(path: Path, image: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(path)
