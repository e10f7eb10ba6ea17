"""Latent priors: distributions that `sample` draws latents f32[n, D] from.

Every sample is a pure function of (seed, index): a counter-based generator gives each sample its
own random words. Thus sample 500,000 can be drawn on its own, batches of any size give the same
latents bit for bit, and a port to another language needs only Philox-4x64 and Box-Muller.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, UsageError
from .files.json_fields import take, take_array
from .rng import normals, random_words, uniforms

KINDS = ("normal", "uniform", "gaussian", "gmm", "class_gmm")
_ARRAYS = ("low", "high", "weights", "mean", "cholesky")
_MAX_DIMENSIONS = 65_536


@dataclass(frozen=True, eq=False)
class Prior:
    """A prior over latents; its arrays are checked at construction.

    Attributes:
        kind: `normal` (N(0, I)), `uniform` (a box), `gaussian`, `gmm`, or `class_gmm`.
        latent_dim: D.
        low, high: f64[D], the bounds of `uniform`.
        weights: f64[R, M], weights of M components in R mixtures. R is 1, but classes + 1 for
            `class_gmm`; the last mixture is then for unlabelled latents.
        mean: f64[R, M, D], the mean of each component.
        cholesky: f64[R, M, D(D+1)/2], the lower Cholesky factor of each covariance, row by row.

    Raises:
        InputError: the kind is unknown, an array is missing or has the wrong shape, or a number is
            not finite.
    """

    kind: str
    latent_dim: int
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    weights: NDArray[np.float64] | None = None
    mean: NDArray[np.float64] | None = None
    cholesky: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 1 <= self.latent_dim <= _MAX_DIMENSIONS:
            raise InputError(
                f"prior: kind {self.kind!r} of {self.latent_dim} dimensions, expected one of "
                f"{KINDS} of 1 to {_MAX_DIMENSIONS}"
            )
        given = tuple(name for name in _ARRAYS if getattr(self, name) is not None)
        if given != _arrays_of(self.kind):
            raise InputError(
                f"prior: {self.kind} has the arrays {', '.join(given) or 'none'}, "
                f"expected {', '.join(_arrays_of(self.kind)) or 'none'}"
            )
        if self.low is not None and self.high is not None:
            self._check_box(self.low, self.high)
        if self.weights is not None and self.mean is not None and self.cholesky is not None:
            self._check_mixtures(self.weights, self.mean, self.cholesky)

    @classmethod
    def normal(cls, latent_dim: int) -> Prior:
        """Return N(0, I) in `latent_dim` dimensions."""
        return cls("normal", latent_dim)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Prior:
        """Build a prior from the output of `to_json`.

        Raises:
            InputError: a value is missing or has the wrong type; see also `Prior`.
        """
        kind, dim = take(data, "kind", str, "prior"), take(data, "latent_dim", int, "prior")
        names = [name for name in _ARRAYS if name in data]
        return cls(kind, dim, **{name: take_array(data, name, "prior") for name in names})

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary with arrays as lists, rounded to six significant digits."""
        data: dict[str, Any] = {"kind": self.kind, "latent_dim": self.latent_dim}
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                data[name] = _rounded(array.tolist())
        return data

    @property
    def rows(self) -> int:
        """The number of mixtures: classes + 1 for `class_gmm`, else 1."""
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
        """Sample latents `start` to `start + n - 1` of the endless sequence of a seed.

        Args:
            n: number of latents.
            label: for `class_gmm`, one class index for all latents, or i64[n]; None or the index
                after the last class means no label. Other kinds ignore it.
            seed: 0 to 2**64 - 1; None picks a random one.
            start: index of the first latent.
            temperature: factor for the spread around each component's mean; 0 gives the means.
            truncation: redraw each standard normal until it is within ± this bound.

        Returns:
            f32[n, D].

        Raises:
            UsageError: a number is out of range, or `label` is neither one integer nor n integers.
        """
        check_sampling(n, seed, temperature, truncation)
        if start < 0:
            raise UsageError(f"start is {start}, expected 0 or more")
        seed = fresh_seed() if seed is None else seed
        return self.sample_checked(n, label, seed, start, temperature, truncation)

    def sample_checked(
        self,
        n: int,
        label: NDArray[np.int64] | int | None,
        seed: int,
        start: int,
        temperature: float,
        truncation: float | None,
    ) -> NDArray[np.float32]:
        """Sample without checks, for callers that checked the arguments of all batches at once."""
        rows = self._rows_of(label, n)
        words = random_words(seed, start, n, self.latent_dim)
        if self.low is not None and self.high is not None:
            middle, half = (self.low + self.high) / 2, (self.high - self.low) / 2
            uniform = uniforms(words[:, 1 : 1 + self.latent_dim])
            return (middle + temperature * half * (2 * uniform - 1)).astype(np.float32)
        eps = temperature * normals(words[:, 1:], self.latent_dim, truncation)
        if self.weights is None:
            return eps.astype(np.float32)
        component = (uniforms(words[:, :1]) >= self._cumulative[rows]).sum(axis=1)
        return self._place(eps, rows, component).astype(np.float32)

    def spread(self, label: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return two arrays f64[D]: each dimension's mean and each dimension's standard deviation.

        For `class_gmm`, they describe the class `label`; None means unlabelled latents.
        """
        if self.low is not None and self.high is not None:
            return (self.low + self.high) / 2, (self.high - self.low) / np.sqrt(12)
        if self.weights is None or self.mean is None or self.cholesky is None:
            return np.zeros(self.latent_dim), np.ones(self.latent_dim)
        row = self._rows_of(label, 1)[0]
        weights, means = self.weights[row][:, None], self.mean[row]
        # The diagonal of L·Lᵀ is the sum of squares of each row of the packed factor.
        starts = [i * (i + 1) // 2 for i in range(self.latent_dim)]
        variances = np.add.reduceat(self.cholesky[row] ** 2, starts, axis=1)
        mean = (weights * means).sum(axis=0)
        variance = (weights * (variances + (means - mean) ** 2)).sum(axis=0)
        return mean, np.sqrt(variance)

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        """The cumulative weights f64[R, M], normalised because the stored weights are rounded."""
        assert self.weights is not None
        total = np.cumsum(self.weights, axis=1, dtype=np.float64)
        return total / total[:, -1:]

    def _place(
        self, eps: NDArray[np.float64], row: NDArray[np.intp], component: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Compute mean + L·eps, one column of L at a time.

        Unlike a matrix product, these sums give the same bits for any batch size.
        """
        assert self.mean is not None
        assert self.cholesky is not None
        z = self.mean[row, component]
        for j in range(self.latent_dim):
            below = np.arange(j, self.latent_dim)  # L[i, j] is at index i·(i+1)/2 + j
            column = self.cholesky[row[:, None], component[:, None], below * (below + 1) // 2 + j]
            z[:, j:] += column * eps[:, j, None]
        return z

    def _rows_of(self, label: NDArray[np.int64] | int | None, n: int) -> NDArray[np.intp]:
        """Return the index of the mixture for each of n latents; None selects the last mixture."""
        if self.kind != "class_gmm" or label is None:
            return np.full(n, self.rows - 1, np.intp)
        labels = np.asarray(label)
        if labels.dtype.kind not in "iu" or labels.shape not in ((), (n,)):
            raise UsageError(
                f"label is {labels.dtype}{list(labels.shape)}, expected one integer or int64[{n}]"
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < self.rows):
            raise UsageError(
                f"label runs from {labels.min()} to {labels.max()}, expected 0 to {self.rows - 1}"
            )
        return np.broadcast_to(labels.astype(np.intp), (n,))

    def _check_box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
        _check_array("low", low, (self.latent_dim,))
        _check_array("high", high, (self.latent_dim,))
        if (low > high).any():
            raise InputError("prior: low is above high, expected low <= high")

    def _check_mixtures(
        self, weights: NDArray[np.float64], mean: NDArray[np.float64], cholesky: NDArray[np.float64]
    ) -> None:
        d = self.latent_dim
        rows, m = weights.shape if weights.ndim == 2 else (0, 0)
        _check_array("weights", weights, (rows, m))
        _check_array("mean", mean, (rows, m, d))
        _check_array("cholesky", cholesky, (rows, m, d * (d + 1) // 2))
        if not weights.size or weights.min() < 0 or abs(weights.sum(axis=1) - 1).max() > 1e-3:
            raise InputError("prior: expected weights of 0 or more that sum to 1 in each row")
        fits = {"gaussian": rows == 1 and m == 1, "gmm": rows == 1, "class_gmm": rows > 1}
        if not fits[self.kind]:
            raise InputError(f"prior: {rows} mixtures of {m} components do not fit {self.kind}")


def choose_prior(fitted: Prior, name: str) -> Prior:
    """Return the prior called `name`: `fitted` (from the bundle) or `normal` (N(0, I)).

    Raises:
        UsageError: the name is neither `fitted` nor `normal`.
    """
    if name == "fitted":
        return fitted
    if name == "normal":
        return Prior.normal(fitted.latent_dim)
    raise UsageError(f"prior is {name!r}, expected 'fitted' or 'normal'")


def fresh_seed() -> int:
    """Return a random 32-bit seed, short enough to be read aloud."""
    return int.from_bytes(os.urandom(4), "little")


def check_sampling(
    n: int, seed: int | None, temperature: float = 1.0, truncation: float | None = None
) -> None:
    """Check the ranges of sampling options.

    Raises:
        UsageError: a value is out of range.
    """
    if not isinstance(n, int | np.integer) or n < 0:
        raise UsageError(f"n is {n!r}, expected a whole number, 0 or more")
    if seed is not None and not (isinstance(seed, int | np.integer) and 0 <= seed < 2**64):
        raise UsageError(f"seed is {seed!r}, expected a whole number from 0 to 2**64 - 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature is {temperature}, expected a finite number, 0 or more")
    if truncation is not None and not 0.1 <= truncation < float("inf"):
        raise UsageError(f"truncation is {truncation}, expected a number of 0.1 or more")


def _arrays_of(kind: str) -> tuple[str, ...]:
    """Return the names of the arrays that a kind has, in the order of `_ARRAYS`."""
    return {"normal": (), "uniform": ("low", "high")}.get(kind, ("weights", "mean", "cholesky"))


def _check_array(name: str, array: NDArray[np.float64], shape: tuple[int, ...]) -> None:
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"prior: {name} has shape {array.shape}, expected {shape}, all finite")


def _rounded(value: Any) -> Any:
    return [_rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.6g}")
