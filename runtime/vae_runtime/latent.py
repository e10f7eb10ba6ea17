"""Arithmetic on codes and likelihoods: traversals, interpolation, KL. Pure NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import UsageError
from .prior import Prior

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_MOST_STEPS = 10_000
_DRAWS_AT_ONCE = 256  # of each image: how much noise is held
_LEAST = np.float32(1e-7)  # probability of a pixel: no logarithm of 0


def traversal(
    start: NDArray[np.float32],
    dim: int,
    steps: int,
    span: float,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Copies of `start` f32[D] whose `dim` runs over mean ± span·std: f32[steps, D]."""
    if not 0 <= dim < len(start):
        raise UsageError(f"dim is {dim}, expected 0 to {len(start) - 1}")
    _check_steps(steps)
    path = np.repeat(start[None], steps, axis=0)
    path[:, dim] = np.linspace(mean[dim] - span * std[dim], mean[dim] + span * std[dim], steps)
    return path


def interpolation(
    a: NDArray[np.float32], b: NDArray[np.float32], steps: int, how: str
) -> NDArray[np.float32]:
    """From code a f32[D] to code b, both included: f32[steps, D].

    `spherical` turns the direction at a constant rate and scales the length linearly.
    """
    _check_steps(steps)
    if how not in ("linear", "spherical"):
        raise UsageError(f"how is {how!r}, expected 'linear' or 'spherical'")
    t = np.linspace(0, 1, steps)[:, None]
    start, end = a.astype(np.float64), b.astype(np.float64)
    lengths = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    cosine = float(start @ end) / max(lengths[0] * lengths[1], 1e-12)
    angle = float(np.arccos(min(1.0, max(-1.0, cosine))))
    path = (1 - t) * start + t * end
    # Codes on one ray or opposite each other span no plane to turn in.
    if how == "spherical" and np.sin(angle) > 1e-6:
        units = start / lengths[0], end / lengths[1]
        turned = np.sin((1 - t) * angle) * units[0] + np.sin(t * angle) * units[1]
        path = ((1 - t) * lengths[0] + t * lengths[1]) * turned / np.sin(angle)
    return np.asarray(path, np.float32)


def posterior_draw(
    mu: NDArray[np.float32], log_var: NDArray[np.float32], seed: int, start: int
) -> NDArray[np.float32]:
    """Draws z ~ N(mu, exp(log_var)), f32[N, D], with the noise `start` … of `seed`."""
    eps = Prior.normal(mu.shape[1]).sample(len(mu), seed=seed, start=start)
    z: NDArray[np.float32] = mu + np.exp(0.5 * log_var) * eps
    return z


def posterior_draws(
    mu: NDArray[np.float32], log_var: NDArray[np.float32], samples: int, seed: int, first: int
) -> Iterator[NDArray[np.float32]]:
    """`samples` draws z ~ N(mu, exp(log_var)), each f32[N, D], of the images `first` ….

    Draw k of image i is number i · samples + k of the seed, whatever stands beside that image.
    """
    n, dim = mu.shape
    normal, sigma = Prior.normal(dim), np.exp(0.5 * log_var)
    for k in range(0, samples, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, samples - k)
        if count == samples:  # those of all images lie side by side
            eps = normal.sample(n * samples, seed=seed, start=first * samples)
            eps = eps.reshape(n, samples, dim)
        else:
            starts = [(first + i) * samples + k for i in range(n)]
            eps = np.stack([normal.sample(count, seed=seed, start=start) for start in starts])
        for noise in eps.transpose(1, 0, 2):
            z: NDArray[np.float32] = mu + sigma * noise
            yield z


def kl_to_standard_normal(
    mu: NDArray[np.float32], log_var: NDArray[np.float32]
) -> NDArray[np.float64]:
    """f64[N], nats: KL(N(mu, exp(log_var)) ‖ N(0, I)); Kingma & Welling 2014, appendix B."""
    m, v = mu.astype(np.float64), log_var.astype(np.float64)
    total: NDArray[np.float64] = 0.5 * (m**2 + np.exp(v) - 1 - v).sum(axis=1)
    return total


def log_prior_ratio(
    z: NDArray[np.float32], mu: NDArray[np.float32], log_var: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Log N(z; 0, I) - log N(z; mu, exp(log_var)), f64[N]: the part of IWAE's weight without x."""
    code, v = z.astype(np.float64), log_var.astype(np.float64)
    noise = (code - mu) ** 2 * np.exp(-v)
    total: NDArray[np.float64] = 0.5 * (noise + v - code**2).sum(axis=1)
    return total


def negative_log_likelihood(
    decoded: NDArray[np.float32],
    images: NDArray[np.float32],
    likelihood: str,
    sigma: float | None = None,
    zeros: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """f64[N], summed over pixels.

    `bernoulli`: cross-entropy in nats, pixels read as probabilities. `gaussian`: in nats with the
    standard deviation `sigma`; without one the squared error, which is the Gaussian one with
    variance 1/2 up to a constant. Where images are binarised, `zeros` is 1 - images: a pixel then
    has one probability instead of two, and a few pixels together one logarithm.
    """
    if likelihood == "gaussian":
        each = np.square(decoded - images, dtype=np.float64)
        if sigma is not None:
            each = each / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
    elif zeros is not None:
        return _binary(decoded, zeros)
    else:
        # Logarithms of float32 are vectorised, ten times as fast as of float64; 1 - p is exact
        # where it is small. Only the sum needs more digits.
        each = np.clip(decoded, _LEAST, 1 - _LEAST)
        off = np.subtract(1, each, dtype=np.float32)
        np.log(each, out=each)
        np.log(off, out=off)
        each -= off
        each *= images
        each += off
        np.negative(each, out=each)
    total: NDArray[np.float64] = each.sum(axis=(1, 2, 3), dtype=np.float64)
    return total


def _binary(decoded: NDArray[np.float32], zeros: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cross-entropy f64[N] of pixels that are 0 or 1; `zeros` is 1 where they are 0."""
    each = np.clip(decoded, _LEAST, 1 - _LEAST)
    np.subtract(each, zeros, out=each)  # p of a 1, p - 1 of a 0
    each = np.abs(each, out=each).reshape(len(each), -1)
    for _ in range(2):  # of four pixels the product is above 1e-28: float32 still holds it
        half, odd = divmod(each.shape[1], 2)
        if not odd:
            each = np.multiply(each[:, :half], each[:, half:])
    np.log(each, out=each)
    total: NDArray[np.float64] = -each.sum(axis=1, dtype=np.float64)
    return total


def _check_steps(steps: int) -> None:
    if not 2 <= steps <= _MOST_STEPS:
        raise UsageError(f"steps is {steps}, expected 2 to {_MOST_STEPS}")
