"""Paths through latent space: traversal of one coordinate, interpolation between two points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arrays import check_number, check_whole
from .errors import UsageError
from .prior import Prior

_MAX_STEPS = 10_000


def traversal(
    prior: Prior,
    start: NDArray[np.float32],
    dim: int,
    steps: int,
    span: float,
    label: int | None = None,
) -> NDArray[np.float32]:
    """Vary one coordinate of `start` f32[D] from mean - span·std to mean + span·std.

    Args:
        prior: its coordinates are the principal directions if it is low-rank, else the dimensions.
        start: the latents to vary.
        dim: the coordinate.
        steps: number of points.
        span: how far to go to either side, in standard deviations.
        label: the class whose mean and standard deviation count, for `class_gmm`.

    Returns:
        f32[steps, D].

    Raises:
        UsageError: `dim` or `steps` is out of range.
    """
    check_whole("dim", dim, 0, prior.coordinates - 1)
    check_whole("steps", steps, 2, _MAX_STEPS)
    check_number("span", span)
    mean, std = (values[dim] for values in prior.spread_of_coordinates(label))
    return move(prior, start, dim, np.linspace(mean - span * std, mean + span * std, steps))


def move(
    prior: Prior, z: NDArray[np.float32], coordinate: int, to: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Set one coordinate of z f32[D] to each of n values f64[n]; return f32[n, D]."""
    path = np.repeat(z[None], len(to), axis=0)
    if prior.directions is None or prior.center is None:
        path[:, coordinate] = to
        return path
    direction = prior.directions[coordinate]
    steps = to - float((z - prior.center) @ direction)
    return np.asarray(path + steps[:, None] * direction, np.float32)


def interpolation(
    a: NDArray[np.float32], b: NDArray[np.float32], steps: int, how: str
) -> NDArray[np.float32]:
    """Interpolate from a f32[D] to b f32[D].

    `linear` follows a straight line. `spherical` rotates the direction at a constant rate and
    changes the length linearly (White 2016, arXiv 1609.04468).

    Returns:
        f32[steps, D], including both ends.

    Raises:
        UsageError: `steps` is out of range, or `how` is unknown.
    """
    check_whole("steps", steps, 2, _MAX_STEPS)
    if how not in ("linear", "spherical"):
        raise UsageError(f"how is {how!r}, expected 'linear' or 'spherical'")
    t = np.linspace(0, 1, steps)[:, None]
    start, end = a.astype(np.float64), b.astype(np.float64)
    lengths = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    cosine = float(start @ end) / max(lengths[0] * lengths[1], 1e-12)
    angle = float(np.arccos(min(1.0, max(-1.0, cosine))))
    path = (1 - t) * start + t * end
    # Parallel and opposite vectors define no plane to rotate in.
    if how == "spherical" and np.sin(angle) > 1e-6:
        units = start / lengths[0], end / lengths[1]
        turned = np.sin((1 - t) * angle) * units[0] + np.sin(t * angle) * units[1]
        path = ((1 - t) * lengths[0] + t * lengths[1]) * turned / np.sin(angle)
    return np.asarray(path, np.float32)


def blend(first: NDArray[np.float32], last: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fade from one sequence of images f32[steps, C, H, W] to another, in equal steps."""
    t = np.linspace(0, 1, len(first), dtype=np.float32)[:, None, None, None]
    return np.asarray((1 - t) * first + t * last, np.float32)
