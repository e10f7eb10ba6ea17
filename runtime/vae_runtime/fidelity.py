"""How close images are to their originals: PSNR and SSIM; and noise to add for measuring it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .detection.normality import smooth

if TYPE_CHECKING:
    from numpy.typing import NDArray

Floats: TypeAlias = "NDArray[np.float32]"
_SIGMA, _RADIUS = 1.5, 5  # of the window of SSIM, in pixels
_C1, _C2 = 0.01**2, 0.03**2  # against division by zero, for pixels in [0, 1]


def psnr(images: Floats, originals: Floats) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio in dB of images f32[N, C, H, W] in [0, 1], f64[N].

    It is infinite where an image equals its original.
    """
    error = np.square(images - originals, dtype=np.float64).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(-10 * np.log10(error))


def ssim(images: Floats, originals: Floats) -> NDArray[np.float64]:
    """Return the structural similarities f64[N], 1 for equal images.

    Wang et al. 2004, doi 10.1109/TIP.2003.819861, with a Gaussian window; averaged over channels
    and over the pixels whose window lies in the image, if it holds one.
    """
    n, c, h, w = images.shape
    x, y = (a.astype(np.float64).reshape(n * c, h, w) for a in (images, originals))
    mean_x, mean_y, xx, yy, xy = (_blur(a) for a in (x, y, x * x, y * y, x * y))
    covariance, product = xy - mean_x * mean_y, mean_x * mean_y
    squares = mean_x**2 + mean_y**2
    variances = xx + yy - squares
    found = (2 * product + _C1) * (2 * covariance + _C2) / (squares + _C1) / (variances + _C2)
    if min(h, w) > 2 * _RADIUS:
        found = found[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return np.asarray(found.mean(axis=(1, 2)).reshape(n, c).mean(axis=1))


def _blur(images: NDArray[np.float64]) -> NDArray[np.float64]:
    return smooth(images, _SIGMA)


def add_noise(
    images: Floats, rng: np.random.Generator, sigma: float = 0.0, salt: float = 0.0
) -> Floats:
    """Add noise to images f32[N, C, H, W] in [0, 1].

    Args:
        images: the images; they are not changed.
        rng: the source of the noise.
        sigma: standard deviation of normal noise, before clipping to [0, 1].
        salt: fraction of the pixels to set to black or white, with all their channels.
    """
    noisy = images
    if sigma:
        noisy = np.clip(images + rng.normal(0, sigma, images.shape), 0, 1).astype(np.float32)
    if salt:
        n, _, h, w = images.shape
        chosen, white = rng.random((2, n, 1, h, w))
        noisy = np.where(chosen < salt, (white < 0.5).astype(np.float32), noisy)
    return noisy
