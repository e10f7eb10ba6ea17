"""Random numbers as a pure function of (seed, index): Philox-4x64 words, converted to normals.

Philox is a counter-based generator (Salmon et al. 2011), so the numbers of any sample can be
computed without those of the samples before it.
"""

from __future__ import annotations

import itertools
import os
from math import erf, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import check_number, check_whole
from .errors import UsageError

Start: TypeAlias = "int | NDArray[np.int64]"
"""The index of the first of n consecutive samples, or i64[n], the index of each sample."""

_WORDS_PER_BLOCK = 4  # of Philox-4x64
# Numbers still outside are then clamped: P < 1e-13 for a truncation of 0.5 or more.
_MAX_REDRAWS = 64


def check_seed(seed: int | None) -> None:
    """Check a seed; None means a random one.

    Raises:
        UsageError: it is not a whole number of 64 bits.
    """
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed < 2**64):
        raise UsageError(f"seed is {seed!r}, expected a whole number from 0 to 2**64 - 1")


def check_sampling(
    n: int, seed: int | None, temperature: float = 1.0, truncation: float | None = None
) -> None:
    """Check the options of sampling: how many, from which seed, how far from the middle.

    Raises:
        UsageError: a value is out of range.
    """
    check_whole("n", n, 0)
    check_seed(seed)
    check_number("temperature", temperature, 0)
    if truncation is not None:
        check_number("truncation", truncation, 0.1)


def check_start(start: Start, n: int) -> None:
    """Check the index of the first of n samples, or the index of each, i64[n].

    Raises:
        UsageError: it is neither, or below 0.
    """
    if not isinstance(start, np.ndarray):
        check_whole("start", start, 0)
    elif start.shape != (n,) or start.dtype.kind not in "iu":
        raise UsageError(
            f"start is {start.dtype}{list(start.shape)}, expected one whole number or int64[{n}]"
        )
    elif np.min(start, initial=0) < 0:
        raise UsageError(f"start is {np.min(start)}, expected 0 or more")


def random_words(seed: int, start: Start, n: int, dim: int) -> NDArray[np.uint64]:
    """Return words u64[n, W] for samples `start` to `start + n - 1` of a seed, or for n indices.

    Word 0 selects the component of a mixture. The next `dim` words (`dim` + 1 if `dim` is odd) are
    converted to normals.
    """
    blocks = -(-(1 + dim + dim % 2) // _WORDS_PER_BLOCK)
    width = blocks * _WORDS_PER_BLOCK
    if not isinstance(start, np.ndarray):
        generator = np.random.Philox(key=seed, counter=int(start) * blocks)
        return generator.random_raw(n * width).reshape(n, width)
    generator, position = np.random.Philox(key=seed, counter=0), 0
    words = np.empty((n, width), np.uint64)
    edges = [0, *(np.flatnonzero(np.diff(start) != 1) + 1).tolist(), n]
    for first, stop in itertools.pairwise(edges if n else []):  # runs of consecutive samples
        generator.advance((int(start[first]) - position) * blocks)
        words[first:stop] = generator.random_raw((stop - first) * width).reshape(-1, width)
        position = int(start[first]) + stop - first
    return words


def uniforms(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Convert the top 53 bits of each word to a number in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def fresh_seed() -> int:
    """Return a random 32-bit seed, short enough to be read aloud."""
    return int.from_bytes(os.urandom(4), "little")


def normal_cdf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Φ of each value, the probability that a standard normal is below it."""
    found: NDArray[np.float64] = np.vectorize(erf, otypes=[np.float64])(values / sqrt(2))
    return 0.5 * (1 + found)


def normals(words: NDArray[np.uint64], dim: int, truncation: float | None) -> NDArray[np.float64]:
    """Convert words to standard normals f64[n, dim], within ± `truncation` unless it is None."""
    drawn = _box_muller(words, dim)
    if truncation is not None:
        _truncate(drawn, words, truncation)
    return drawn


def _box_muller(words: NDArray[np.uint64], dim: int) -> NDArray[np.float64]:
    """Convert each pair of words to two normals (Box & Muller 1958)."""
    even = dim + dim % 2
    pairs = uniforms(words[:, :even])
    radius = np.sqrt(-2 * np.log1p(-pairs[:, 0::2]))
    angle = 2 * np.pi * pairs[:, 1::2]
    drawn = np.empty((len(words), even))
    np.multiply(radius, np.cos(angle), out=drawn[:, 0::2])
    np.multiply(radius, np.sin(angle), out=drawn[:, 1::2])
    return drawn[:, :dim]


def _truncate(normals: NDArray[np.float64], words: NDArray[np.uint64], bound: float) -> None:
    """Redraw, in place, numbers outside ± bound; after `_MAX_REDRAWS` tries, clamp the rest."""
    for attempt in range(1, _MAX_REDRAWS + 1):
        rows = np.flatnonzero((np.abs(normals) > bound).any(axis=1))
        if not len(rows):
            return
        # A redraw hashes the words of its own sample, so it still depends on (seed, index) alone.
        again = _box_muller(_mix(words[rows], attempt), normals.shape[1])
        outside = np.abs(normals[rows]) > bound
        normals[rows] = np.where(outside, again, normals[rows])
    np.clip(normals, -bound, bound, out=normals)


def _mix(words: NDArray[np.uint64], attempt: int) -> NDArray[np.uint64]:
    """Hash words + attempt · golden ratio with the finalizer of SplitMix64 (Steele et al. 2014)."""
    x = words + np.uint64(attempt * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
