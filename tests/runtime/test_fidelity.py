"""PSNR, SSIM and added noise, and `vae-run denoise`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.runtime.conftest import Run
from vae_runtime.fidelity import add_noise, psnr, ssim

pytestmark = pytest.mark.torch_free
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(3, 1, 28, 28), (2, 3, 32, 20), (2, 1, 11, 40)])
def test_the_values_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    a = RNG.random(shape, np.float32)
    b = np.clip(a + RNG.normal(0, 0.1, shape), 0, 1).astype(np.float32)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = [
        metrics.structural_similarity(
            x.astype(float), y.astype(float), data_range=1, channel_axis=0, **options
        )
        for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(ssim(b, a), expected, rtol=1e-9)
    ratios = [
        metrics.peak_signal_noise_ratio(x, y, data_range=1) for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(psnr(b, a), ratios, rtol=1e-6)


def test_equal_images_have_the_highest_values() -> None:
    images = RNG.random((2, 1, 8, 8), np.float32)
    assert psnr(images, images).tolist() == [np.inf, np.inf]
    assert ssim(images, images) == pytest.approx([1, 1])
    assert ssim(1 - images, images).max() < 0
    assert psnr(np.zeros((1, 1, 2, 2), np.float32), np.full((1, 1, 2, 2), 0.1, np.float32)) == (
        pytest.approx(20)
    )


def test_noise_has_the_strength_asked_for() -> None:
    images = np.full((8, 3, 50, 50), 0.5, np.float32)
    rng = np.random.default_rng(1)
    assert add_noise(images, rng) is images
    noisy = add_noise(images, rng, 0.1)
    assert (noisy - images).std() == pytest.approx(0.1, rel=0.02)
    salted = add_noise(images, rng, salt=0.2)
    changed = (salted != 0.5).all(axis=1)
    assert changed.mean() == pytest.approx(0.2, abs=0.01)
    assert ((salted != 0.5).any(axis=1) == changed).all()
    assert salted[salted != 0.5].mean() == pytest.approx(0.5, abs=0.03)
    assert (noisy.dtype, salted.dtype) == (np.float32, np.float32)


def test_the_command_adds_noise_and_measures(run: Run, cvae_path: Path, digits: Path) -> None:
    args = ("denoise", digits, "-b", cvae_path, "--noise", 0.4, "--scale", 1)
    done = run(*args, "-o", "a.png", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["quality"]
    assert 5 < found["noisy_psnr_db"] < 15
    assert found.keys() == {"noisy_psnr_db", "psnr_db", "noisy_ssim", "ssim"}
    with Image.open("a.png") as picture:
        assert picture.size == (78, 28)  # originals, noisy and denoised, with their names
    run(*args, "-o", "b.png")
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    run(*args, "--seed", 1, "-o", "b.png")
    assert Path("a.png").read_bytes() != Path("b.png").read_bytes()


def test_the_command_takes_images_that_are_noisy(run: Run, cvae_path: Path, digits: Path) -> None:
    done = run("denoise", digits, "-b", cvae_path, "-o", "a.npy")
    assert done.code == 0, done.err
    assert done.err.strip() == "wrote 8 denoised images to a.npy"
    run("reconstruct", digits, "-b", cvae_path, "-o", "b.npy")
    assert np.array_equal(np.load("a.npy"), np.load("b.npy"))
