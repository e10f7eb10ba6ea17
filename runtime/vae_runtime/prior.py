"""The distribution that `sample` draws codes from: plain arrays in, codes f32[n, D] out.

Every draw is a pure function of (seed, index of the sample): a counter-based generator gives each
sample its own words. So image 500,000 of a seed can be drawn alone, chunks of any size give the
same codes bit for bit, and a port to another language needs Philox-4x64 and Box-Muller only.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, UsageError

KINDS = ("normal", "uniform", "gaussian", "gmm", "class_gmm")
_WORDS = 4  # a Philox-4x64 block
_DRAWS = 64  # redraws of a truncated normal before it is clamped: P < 1e-13 from truncation .5 up


@dataclass(frozen=True)
class Prior:
    """A latent prior over codes of `latent_dim` numbers.

    Attributes:
        kind: `normal` (N(0, I)), `uniform` (a box), `gaussian`, `gmm`, or `class_gmm`.
        latent_dim: D.
        low, high: f64[D], the box of `uniform`.
        weights: f64[R, M], the share of each component; R is 1, or classes + 1 for `class_gmm`,
            whose last row describes codes without a label.
        mean: f64[R, M, D].
        cholesky: f64[R, M, D(D+1)/2], the lower Cholesky factor of each covariance, row by row.
    """

    kind: str
    latent_dim: int
    low: NDArray[np.float64] | None = field(default=None, compare=False)
    high: NDArray[np.float64] | None = field(default=None, compare=False)
    weights: NDArray[np.float64] | None = field(default=None, compare=False)
    mean: NDArray[np.float64] | None = field(default=None, compare=False)
    cholesky: NDArray[np.float64] | None = field(default=None, compare=False)

    @classmethod
    def normal(cls, latent_dim: int) -> Prior:
        """N(0, I) over `latent_dim` numbers."""
        return cls("normal", latent_dim)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Prior:
        """Read what `to_json` wrote; every shape is checked.

        Raises:
            InputError: an unknown kind, a missing array, a shape that does not fit, a number that
                is not finite.
        """
        kind, dim = data.get("kind"), data.get("latent_dim")
        if kind not in KINDS or not isinstance(dim, int) or dim < 1:
            raise InputError(f"prior: kind {kind!r} of {dim!r} dimensions, expected one of {KINDS}")
        names = {"normal": (), "uniform": ("low", "high")}.get(
            kind, ("weights", "mean", "cholesky")
        )
        try:
            arrays = {name: np.asarray(data[name], np.float64) for name in names}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"prior: {kind} needs the number arrays {', '.join(names)}") from error
        prior = cls(kind, dim, **arrays)
        prior._check()
        return prior

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain lists, numbers kept to six significant digits."""
        data: dict[str, Any] = {"kind": self.kind, "latent_dim": self.latent_dim}
        for name in ("low", "high", "weights", "mean", "cholesky"):
            array = getattr(self, name)
            if array is not None:
                data[name] = _rounded(array.tolist())
        return data

    @property
    def rows(self) -> int:
        """How many mixtures there are: classes + 1 for `class_gmm`, else 1."""
        return 1 if self.weights is None else len(self.weights)

    def sample(
        self,
        n: int,
        label: NDArray[np.int64] | int | None = None,
        seed: int | None = None,
        *,
        start: int = 0,
        temperature: float = 1.0,
        truncation: float | None = None,
    ) -> NDArray[np.float32]:
        """Draw codes `start` to `start + n` of the endless sequence that belongs to `seed`.

        Args:
            n: how many codes.
            label: for `class_gmm`, the class of each code, one index or i64[n]; None draws from the
                mixture of codes without a label. Other kinds ignore it.
            seed: 0 to 2**64 - 1; None draws a fresh one.
            start: the index of the first code.
            temperature: scales the spread around each component's mean; 0 gives the means.
            truncation: if given, each standard normal is redrawn until it lies within ± this.

        Returns:
            f32[n, D].
        """
        check_draw(n, seed, temperature, truncation)
        words = _words(fresh_seed() if seed is None else seed, start, n, self.latent_dim)
        if self.low is not None and self.high is not None:
            middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            uniform = _unit(words[:, 1 : 1 + self.latent_dim])
            return (middle + temperature * half * (2 * uniform - 1)).astype(np.float32)
        eps = temperature * _normals(words[:, 1:], self.latent_dim, truncation)
        if self.weights is None or self.mean is None or self.cholesky is None:
            return eps.astype(np.float32)
        row = self._row(label, n)
        share = np.cumsum(self.weights, axis=1)
        share[:, -1] = 1.0  # the weights were rounded; the last component takes the remainder
        component = (_unit(words[:, :1]) >= share[row]).sum(axis=1)
        return self._place(eps, row, component).astype(np.float32)

    def spread(self, label: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation of each dimension, f64[D] each, of a class or of all codes."""
        if self.low is not None and self.high is not None:
            return (self.low + self.high) / 2, (self.high - self.low) / np.sqrt(12)
        if self.weights is None or self.mean is None or self.cholesky is None:
            return np.zeros(self.latent_dim), np.ones(self.latent_dim)
        row = self._row(label, 1)[0]
        weights, means = self.weights[row][:, None], self.mean[row]
        # The diagonal of L·Lᵀ: squares of the packed factor summed row by row.
        starts = [i * (i + 1) // 2 for i in range(self.latent_dim)]
        variances = np.add.reduceat(self.cholesky[row] ** 2, starts, axis=1)
        mean = (weights * means).sum(axis=0)
        variance = (weights * (variances + (means - mean) ** 2)).sum(axis=0)
        return mean, np.sqrt(variance)

    def _place(
        self, eps: NDArray[np.float64], row: NDArray[np.intp], component: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Mean + L·eps, one column of L at a time: plain sums, so a chunk's size changes no bit."""
        assert self.mean is not None
        assert self.cholesky is not None
        z = self.mean[row, component]
        packed = self.cholesky[row, component]
        for i in range(self.latent_dim):
            first = i * (i + 1) // 2
            for j in range(i + 1):
                z[:, i] += packed[:, first + j] * eps[:, j]
        return z

    def _row(self, label: NDArray[np.int64] | int | None, n: int) -> NDArray[np.intp]:
        if self.kind != "class_gmm":
            return np.zeros(n, np.intp)
        return np.broadcast_to(np.asarray(self.rows - 1 if label is None else label, np.intp), (n,))

    def _check(self) -> None:
        d = self.latent_dim
        given = {
            name: a
            for name in ("low", "high", "weights", "mean", "cholesky")
            if (a := getattr(self, name)) is not None
        }
        rows, m = (self.weights.shape + (0, 0))[:2] if self.weights is not None else (0, 0)
        expected = {
            "low": (d,),
            "high": (d,),
            "weights": (rows, m),
            "mean": (rows, m, d),
            "cholesky": (rows, m, d * (d + 1) // 2),
        }
        for name, array in given.items():
            if array.shape != expected[name] or not np.isfinite(array).all():
                raise InputError(
                    f"prior: {name} has shape {array.shape}, expected {expected[name]}, all finite"
                )
        if self.weights is not None and (
            not self.weights.size
            or self.weights.min() < 0
            or np.abs(self.weights.sum(axis=1) - 1).max() > 1e-3
        ):
            raise InputError("prior: weights must be positive and sum to 1 in each row")


def fresh_seed() -> int:
    """A seed nobody has seen before, small enough to be read aloud."""
    return secrets.randbits(32)


def check_draw(
    n: int, seed: int | None, temperature: float = 1.0, truncation: float | None = None
) -> None:
    """Refuse a count, seed, temperature or truncation outside its range.

    Raises:
        UsageError: which one, and its range.
    """
    if n < 0:
        raise UsageError(f"n is {n}, expected 0 or more")
    if seed is not None and not 0 <= seed < 2**64:
        raise UsageError(f"seed is {seed}, expected 0 to 2**64 - 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature is {temperature}, expected a finite number, 0 or more")
    if truncation is not None and not 0.1 <= truncation < float("inf"):
        raise UsageError(f"truncation is {truncation}, expected a number from 0.1 up")


def _words(seed: int, start: int, n: int, dim: int) -> NDArray[np.uint64]:
    """u64[n, W]: the words of samples `start` …; the first picks the component, the rest the code."""
    blocks = -(-(1 + dim + dim % 2) // _WORDS)
    generator = np.random.Philox(key=seed, counter=start * blocks)
    return generator.random_raw(n * blocks * _WORDS).reshape(n, blocks * _WORDS)


def _unit(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The top 53 bits of each word as a number in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _normals(words: NDArray[np.uint64], dim: int, truncation: float | None) -> NDArray[np.float64]:
    """Standard normals f64[n, dim] by Box and Muller (1958), from u64[n, ≥ dim rounded up to even]."""
    normals = _box_muller(words, dim)
    if truncation is not None:
        _truncate(normals, words, truncation)
    return normals


def _box_muller(words: NDArray[np.uint64], dim: int) -> NDArray[np.float64]:
    even = dim + dim % 2
    radius = np.sqrt(-2 * np.log1p(-_unit(words[:, 0:even:2])))
    angle = 2 * np.pi * _unit(words[:, 1:even:2])
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(len(words), even)[:, :dim]


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


def _rounded(value: Any) -> Any:
    return [_rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.6g}")
