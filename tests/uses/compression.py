"""Compare `.vaez` files with picture formats: bytes per image against PSNR."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import vae_runtime as vae
from vae_runtime.compression import compress, decompress
from vae_runtime.datasets import Dataset
from vae_runtime.fidelity import psnr, ssim

LOSSES = (0.02, 0.05, 0.2, 0.5, 1.0, 2.0)
QUALITIES = (1, 5, 10, 20, 40, 60, 80, 95)
IMAGES = 2000


@dataclass(frozen=True)
class Rate:
    """How small images become, and what comes back.

    Attributes:
        data, bundle: the images and the model.
        method: `vae`, `jpeg`, `webp` or `png`.
        setting: the loss, or the quality of the picture format.
        bytes: per image, of a whole file of 2,000 images, or of each picture by itself.
        psnr, ssim: means over the images.
    """

    data: str
    bundle: str
    method: str
    setting: float
    bytes: float
    psnr: float
    ssim: float


def rates(name: str, test: Dataset, bundle: str) -> list[Rate]:
    """Compress test images at several settings of each method."""
    pixels = np.ascontiguousarray(test.images[:IMAGES])
    labels = None if test.labels is None else test.labels[:IMAGES]
    originals = pixels.astype(np.float32) / 255
    found = []

    def add(method: str, setting: float, size: int, images: NDArray[np.float32]) -> None:
        quality = float(psnr(images, originals).mean()), float(ssim(images, originals).mean())
        found.append(Rate(name, bundle, method, setting, size / len(pixels), *quality))

    with vae.load(bundle, device="cpu") as model:
        own = labels if model.spec.classes else None
        for loss in LOSSES:
            raw = compress(model, pixels, own, loss=loss)
            add("vae", loss, len(raw), decompress(model, raw))
    for method, qualities in (("jpeg", QUALITIES), ("webp", QUALITIES), ("png", (100,))):
        for quality in qualities:
            files = [_encode(image, method, quality) for image in pixels]
            decoded = np.stack([_decode(file, pixels.shape[1]) for file in files])
            size = sum(map(len, files))
            if method == "png":  # lossless; a PSNR of 99 dB stands for infinity
                found.append(Rate(name, bundle, method, quality, size / len(pixels), 99.0, 1.0))
            else:
                add(method, quality, size, decoded)
    return found


def _encode(image: NDArray[np.uint8], method: str, quality: int) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.save(file, method, quality=quality, optimize=True)
    return file.getvalue()


def _decode(raw: bytes, channels: int) -> NDArray[np.float32]:
    with Image.open(io.BytesIO(raw)) as picture:
        values = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.float32) / 255
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def table(rows: list[Rate]) -> str:
    """Render the results of one data set."""
    lines = [
        f"Compressing {rows[0].data} with the bundle `{rows[0].bundle}`: means of {IMAGES:,} test "
        "images. A `.vaez` file holds all of them; of the picture formats, each image is a file.",
        "",
        "| method | setting | bytes per image | PSNR in dB | SSIM |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lossless = row.method == "png"
        quality = "∞ | 1" if lossless else f"{row.psnr:.1f} | {row.ssim:.3f}"
        setting = "–" if lossless else f"{row.setting:g}"
        lines.append(f"| {row.method} | {setting} | {row.bytes:.1f} | {quality} |")
    return "\n".join(lines)


def draw(rows: list[Rate], path: Path) -> None:
    """Draw bytes per image against PSNR, a plot for each data set."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row.data for row in rows))
    figure = Figure((1 + 4 * len(names), 4.2), layout="constrained")
    styles = {"vae": ("#b63679", "vae-run compress"), "jpeg": ("#3b7dd8", "JPEG"),
              "webp": ("#2a9d6f", "WebP")}  # fmt: skip
    plots = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(plots, names, strict=True):
        for method, (colour, label) in styles.items():
            own = [row for row in rows if (row.data, row.method) == (name, method)]
            points = [row.bytes for row in own], [row.psnr for row in own]
            axes.plot(*points, "o-", color=colour, label=label)
        (png,) = [row.bytes for row in rows if (row.data, row.method) == (name, "png")]
        axes.axvline(png, color="#999", ls=":", label="PNG, lossless")
        axes.set(title=name, xscale="log", xlabel="bytes per image")
        axes.set_xticks([5, 20, 100, 500, 2000], minor=False)
        axes.xaxis.set_major_formatter("{x:g}")
    plots[0].set_ylabel("PSNR in dB")
    plots[0].legend(frameon=False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
