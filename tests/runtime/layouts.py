"""Data in the layouts that people have, one per row of the tables in docs/data.md.

Each function makes its data below `root` and returns what `--data` would name; None is `root`.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Make = Callable[[Path], Path | None]
RNG = np.random.default_rng(0)
LABELS = np.arange(12) % 3


def discs(n: int, h: int = 10, w: int = 10) -> NDArray[np.bool_]:
    """Draw one disc per image: bool[N, H, W]."""
    y, x = np.mgrid[:h, :w]
    centre, radius = RNG.uniform(0.3, 0.7, (n, 2, 1, 1)), RNG.uniform(0.15, 0.3, (n, 1, 1))
    distance = (y - centre[:, 0] * h) ** 2 + (x - centre[:, 1] * w) ** 2
    return distance < (radius * min(h, w)) ** 2


DISCS = discs(12)
BYTES = DISCS.astype(np.uint8) * np.uint8(255)


def save(path: Path, pixels: NDArray[Any] | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = BYTES[0] if pixels is None else pixels
    Image.fromarray(image).save(path, **options)


def colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([pixels, pixels // 2 + 20, 255 - pixels], -1)


def fill(folder: Path, n: int, ending: str = ".png", rgb: bool = False) -> None:
    for k, disc in enumerate(discs(n).astype(np.uint8) * np.uint8(255)):
        save(folder / f"{k}{ending}", colour(disc) if rgb else disc)


def folders(**counts: int) -> Make:
    """Make folders of PNG files; `__` in a name separates folders."""

    def make(root: Path) -> None:
        for name, n in counts.items():
            fill(root / name.replace("__", "/"), n)

    return make


def npz(**arrays: Any) -> Make:
    def make(root: Path) -> Path:
        np.savez(root / "data.npz", **arrays)
        return root / "data.npz"

    return make


# Folders of images


def mvtec(root: Path) -> None:
    fill(root / "train/good", 6, rgb=True)
    for kind, n in (("good", 3), ("broken", 2), ("dirty", 2)):
        fill(root / "test" / kind, n, rgb=True)
    fill(root / "ground_truth/broken", 2)
    (root / "license.txt").write_text("by its authors")


def archive(root: Path) -> None:
    for kind in ("Cat", "Dog"):
        fill(root / "PetImages" / kind, 3)
        (root / "PetImages" / kind / ".DS_Store").write_bytes(b"")
        (root / "PetImages" / kind / "Thumbs.db").write_bytes(b"")
        (root / "PetImages" / kind / "._0.png").write_bytes(b"resource fork")
        fill(root / "PetImages" / kind / "thumbnails", 2)
        save(root / "__MACOSX/PetImages" / kind / "._0.png")
    (root / "readme.txt").write_text("")


def extensions(root: Path) -> None:
    for k, ending in enumerate((".png", ".JPG", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".TIFF",
                                ".pgm")):  # fmt: skip
        kind = {".jfif": "JPEG"}.get(ending)
        save(root / "mixed" / f"{k}{ending}", **({"format": kind} if kind else {}))


def links(root: Path) -> None:
    fill(root / "store/köln", 2)
    fill(root / "store/東京", 2)
    (root / "photos").mkdir()
    for kind in ("köln", "東京"):
        (root / "photos" / kind).symlink_to(root / "store" / kind)
    (root / "photos/köln/again").symlink_to(root / "photos")


def linked(root: Path) -> Path:
    links(root)
    return root / "photos"


def beside(root: Path) -> None:
    fill(root, 2)
    fill(root / "cat", 3)


def grey_and_colour(root: Path) -> None:
    fill(root / "a", 2)
    fill(root / "b", 1, rgb=True)


def damaged(root: Path) -> None:
    fill(root, 14)
    for k in range(12):
        (root / f"{k}.png").write_bytes((root / f"{k}.png").read_bytes()[:-20])


def sizes(root: Path) -> None:
    fill(root, 3)
    save(root / "9.png", BYTES[0][:8])


def photographs(root: Path) -> None:
    for k in range(2):
        save(root / f"{k}.jpg", np.full((4000, 6000, 3), 100 + k, np.uint8))


def icons(root: Path) -> None:
    for k, disc in enumerate(BYTES[:4]):
        ink = np.zeros((*disc.shape, 4), np.uint8)
        ink[..., 3] = disc
        save(root / f"{k}.png", ink)


def masks(root: Path) -> None:
    for k, disc in enumerate(DISCS[:4]):
        save(root / f"{k}.png", disc.astype(np.uint8))


def two_depths(root: Path) -> None:
    for k, disc in enumerate(DISCS[:4]):
        save(root / f"{k}.png", disc.astype(np.uint16) * 65535)


# Arrays


def npy(root: Path) -> Path:
    np.save(root / "x_train.npy", BYTES)
    np.save(root / "y_train.npy", LABELS)
    return root / "x_train.npy"


def npy_folder(root: Path) -> None:
    npy(root)
    np.save(root / "x_test.npy", BYTES[:4])
    np.save(root / "y_test.npy", LABELS[:4])


def kmnist(root: Path) -> None:
    for split, n in (("train", 12), ("test", 5)):
        np.savez_compressed(root / f"kmnist-{split}-imgs.npz", BYTES[:n])
        np.savez_compressed(root / f"kmnist-{split}-labels.npz", LABELS[:n].astype(np.uint8))


def dsprites(root: Path) -> Path:
    path = root / "dsprites.npz"
    factors = np.stack([LABELS, LABELS // 2], 1)
    np.savez(path, imgs=DISCS.astype(np.uint8), latents_classes=factors,
             metadata=np.array({"author": "x"}, object))  # fmt: skip
    return path


# IDX


def idx(values: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def idx_files(folder: Path, prefix: str = "", test: str = "t10k", labels: Any = LABELS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", 12), (test, 4)):
        (folder / f"{prefix}{split}-images-idx3-ubyte").write_bytes(idx(BYTES[:n]))
        packed = gzip.compress(idx(labels[:n].astype(np.uint8)))
        (folder / f"{prefix}{split}-labels-idx1-ubyte.gz").write_bytes(packed)


def torchvision(root: Path) -> None:
    idx_files(root / "MNIST/raw")


def emnist(root: Path) -> Path:
    for kind in ("letters", "balanced"):
        idx_files(root / "gzip", f"emnist-{kind}-", "test", LABELS + (kind == "letters"))
    return root / "gzip/emnist-letters"


def emnist_folder(root: Path) -> Path:
    return emnist(root).parent


# Parquet


def hugging_face(root: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    names = {"info": {"features": {"label": {"names": ["cat", "dog", "emu"]}}}}
    for split, n in (("train", 12), ("validation", 3), ("test", 4)):
        rows = []
        for disc in BYTES[:n]:
            out = io.BytesIO()
            Image.fromarray(colour(disc)).save(out, "png")
            rows.append({"bytes": out.getvalue(), "path": None})
        table = pa.table({"img": pa.array(rows), "label": pa.array(LABELS[:n])})
        table = table.replace_schema_metadata({"huggingface": json.dumps(names)})
        (root / "data").mkdir(exist_ok=True)
        pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")


def parquet_of_numbers(root: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = pa.array(LABELS.astype(float))
    table = pa.table({"image": pa.array(BYTES[:, None].tolist()), "label": labels})
    pq.write_table(table, root / "rows.parquet")


def other(name: str) -> Make:
    def make(root: Path) -> Path:
        (root / name).write_bytes(b"something")
        return root / name

    return make


def pickles(root: Path) -> None:
    for k in range(5):
        (root / f"data_batch_{k}").write_bytes(b"\x80\x02")
