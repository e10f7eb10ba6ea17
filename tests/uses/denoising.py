"""Compare a model that was trained to remove noise with the filters that people use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter
from scipy.signal import wiener
from skimage.restoration import denoise_nl_means

import vae_runtime as vae
from tests.uses.training import trained
from vae_runtime.datasets import Dataset
from vae_runtime.fidelity import add_noise, psnr, ssim
from vae_train import Checkpoint, load_checkpoint
from vae_train.run import codec_of

LEVELS = {"σ = .1": (0.1, 0.0), "σ = .3": (0.3, 0.0), "σ = .5": (0.5, 0.0), "salt 10%": (0.0, 0.1)}
IMAGES = 500
# What `vae-train ae --noise 0.4 --latent-dim 64` does.
OPTIONS = {"noise": 0.4, "latent_dim": 64}

Floats = NDArray[np.float32]
Filter = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Denoised:
    """The means of PSNR in dB and of SSIM of one method at one level of noise."""

    data: str
    noise: str
    method: str
    seed: int
    psnr: float
    ssim: float


def _median(images: Floats, size: int) -> Floats:
    found: Floats = median_filter(images, (1, 1, size, size))
    return found


def _wiener(images: Floats, size: int) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = [wiener(image[0].astype(float), size) for image in images]
    return np.nan_to_num(np.stack(rows)[:, None]).clip(0, 1).astype(np.float32)


def _nl_means(images: Floats, strength: float) -> Floats:
    rows = [
        denoise_nl_means(image[0], patch_size=5, patch_distance=9, fast_mode=True, h=strength)
        for image in images
    ]
    return np.stack(rows)[:, None].clip(0, 1).astype(np.float32)


# Each filter with the setting that has the highest PSNR on the test images, to its advantage.
FILTERS: dict[str, list[Filter]] = {
    "nothing": [lambda images: images],
    "median": [partial(_median, size=n) for n in (3, 5)],
    "Wiener": [partial(_wiener, size=n) for n in (3, 5, 7)],
    "non-local means": [partial(_nl_means, strength=h) for h in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)],
}


def denoise(
    name: str, training: Dataset, test: Dataset, seeds: list[int], work: Path
) -> Iterator[Denoised]:
    """Train on all images with noise, and measure on test images with noise of each level."""
    for seed in seeds:
        found = trained("ae", training, work / f"denoise-{name}-{seed}.pt", seed, **OPTIONS)
        images = next(test.batches(IMAGES)).astype(np.float32) / 255
        for level, (sigma, salt) in LEVELS.items():
            noisy = add_noise(images, np.random.default_rng(seed), sigma, salt)
            for method, result in results(noisy, images, found).items():
                yield Denoised(
                    name, level, method, seed,
                    float(psnr(result, images).mean()), float(ssim(result, images).mean()),
                )  # fmt: skip


def results(noisy: Floats, images: Floats, checkpoint: Checkpoint) -> dict[str, Floats]:
    """Remove noise by each method; a filter has the setting with the highest PSNR."""
    found = {}
    for method, settings in (FILTERS | {"the model": [model_of(checkpoint)]}).items():
        each = [remove(noisy) for remove in settings]
        found[method] = max(each, key=lambda one: psnr(one, images).mean())
    return found


def model_of(checkpoint: Checkpoint) -> Filter:
    """Return the reconstruction of a checkpoint as a filter."""
    codec = codec_of(checkpoint.build(), torch.device("cpu"))
    return lambda images: codec.decode(codec.encode(images, None)[0], None)


def draw(name: str, test: Dataset, work: Path, path: Path) -> None:
    """Draw twelve test images, the same with noise of σ = .3, and the result of each method."""
    images = next(test.batches(12)).astype(np.float32) / 255
    noisy = add_noise(images, np.random.default_rng(0), 0.3)
    found = results(noisy, images, load_checkpoint(work / f"denoise-{name}-0.pt"))
    rows = {"original": images, "noisy": found.pop("nothing")} | found
    labels = [row for row in rows for _ in images]
    vae.save(np.concatenate(list(rows.values())), path, labels, columns=len(images))


def table(rows: list[Denoised]) -> str:
    """Render the results: one line per method, PSNR and SSIM per level."""
    levels = list(dict.fromkeys(row.noise for row in rows))
    seeds = len({row.seed for row in rows})
    lines = [
        f"Denoising {rows[0].data}: PSNR in dB / SSIM, means of {IMAGES} test images and {seeds} "
        "seeds. The model is trained once, with normal noise of σ = .4; each filter has its best "
        "setting for each level.",
        "",
        f"| method | {' | '.join(levels)} |",
        f"| --- |{' ---: |' * len(levels)}",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        cells = []
        for level in levels:
            own = [r for r in rows if (r.method, r.noise) == (method, level)]
            cells.append(
                f"{np.mean([r.psnr for r in own]):.1f} / {np.mean([r.ssim for r in own]):.3f}"
            )
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)
