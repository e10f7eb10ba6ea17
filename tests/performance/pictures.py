"""Write images: ten thousand PNG files in a folder, and one grid of ten thousand."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from vae_runtime.cli.output import Column, write_folder
from vae_runtime.grids import tile
from vae_runtime.images import encode_image

from .models import cvae
from .timing import Table

_IMAGES = 10_000


def run(table: Table) -> None:
    """Measure both with images that are decoded beforehand."""
    n = 1_000 if table.quick else _IMAGES
    benchmark = cvae("reference")
    images = benchmark.load().decode(benchmark.latents(n), np.arange(n) % 10, dtype="uint8")
    column = Column.of(images)
    with tempfile.TemporaryDirectory(prefix="vae-performance-") as name:
        ours, theirs = Path(name) / "ours", Path(name) / "pillow"

        def folder() -> None:
            shutil.rmtree(ours, ignore_errors=True)
            write_folder(column, ours, 1)

        def pillow() -> None:
            shutil.rmtree(theirs, ignore_errors=True)
            theirs.mkdir()
            for i, image in enumerate(images):
                Image.fromarray(image[0]).save(theirs / f"{i:05d}.png")

        table.compare(
            f"{n:,} PNG files", {"ours": folder, "Pillow alone": pillow},
            {"Pillow alone": ("cost", 1.1)}, items=n, rounds=5,
            comment="ours: each file is complete or absent, and flushed to disk at the end",
        )  # fmt: skip
    side = int(n**0.5)
    shown = images[: side * side]

    def pasted() -> bytes:
        sheet = Image.new("L", (side * 30 - 2, side * 30 - 2))
        for i, image in enumerate(shown):
            sheet.paste(Image.fromarray(image[0]), (i % side * 30, i // side * 30))
        buffer = io.BytesIO()
        sheet.save(buffer, "png")
        return buffer.getvalue()

    table.compare(
        f"a grid of {side} × {side} as PNG",
        {"ours": lambda: encode_image(tile(shown, side)), "Pillow alone": pasted},
        {"Pillow alone": ("cost", 1.1)}, rounds=10,
    )  # fmt: skip
