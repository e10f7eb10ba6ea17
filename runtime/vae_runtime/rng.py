"""Random numbers that are a pure function of (seed, index): Philox-4x64 words and normals of them.

Philox is a counter-based generator (Salmon et al. 2011): any sample's words can be had alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WORDS = 4  # a Philox-4x64 block
_DRAWS = 64  # redraws of a truncated normal before it is clamped: P < 1e-13 from truncation .5 up


def words_of(seed: int, start: int, n: int, dim: int) -> NDArray[np.uint64]:
    """u64[n, W]: the words of samples `start` …; the first picks the component of a mixture."""
    blocks = -(-(1 + dim + dim % 2) // _WORDS)
    generator = np.random.Philox(key=seed, counter=int(start) * blocks)
    return generator.random_raw(n * blocks * _WORDS).reshape(n, blocks * _WORDS)


def unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The top 53 bits of each word as a number in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(words: NDArray[np.uint64], dim: int, truncation: float | None) -> NDArray[np.float64]:
    """Standard normals f64[n, dim] by Box and Muller (1958); an odd dim reads dim + 1 words."""
    drawn = _box_muller(words, dim)
    if truncation is not None:
        _truncate(drawn, words, truncation)
    return drawn


def _box_muller(words: NDArray[np.uint64], dim: int) -> NDArray[np.float64]:
    even = dim + dim % 2
    radius = np.sqrt(-2 * np.log1p(-unit(words[:, 0:even:2])))
    angle = 2 * np.pi * unit(words[:, 1:even:2])
    drawn = np.empty((len(words), even))
    np.multiply(radius, np.cos(angle), out=drawn[:, 0::2])
    np.multiply(radius, np.sin(angle), out=drawn[:, 1::2])
    return drawn[:, :dim]


def _truncate(normals: NDArray[np.float64], words: NDArray[np.uint64], bound: float) -> None:
    """Redraw in place what lies outside ± bound, at most `_DRAWS` times, then clamp."""
    for attempt in range(1, _DRAWS + 1):
        rows = np.flatnonzero((np.abs(normals) > bound).any(axis=1))
        if not len(rows):
            return
        # A redraw hashes the sample's own words, so it too depends on (seed, index) alone.
        again = _box_muller(_mix(words[rows], attempt), normals.shape[1])
        outside = np.abs(normals[rows]) > bound
        normals[rows] = np.where(outside, again, normals[rows])
    np.clip(normals, -bound, bound, out=normals)


def _mix(words: NDArray[np.uint64], attempt: int) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014) on words + attempt · golden ratio."""
    x = words + np.uint64(attempt * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
