"""Latent priors: distributions that `sample` draws latents f32[n, D] from.

Every sample is a pure function of (seed, index): a counter-based generator gives each sample its
own random words. Thus sample 500,000 can be drawn on its own, batches of any size give the same
latents bit for bit, and a port to another language needs only Philox-4x64 and Box-Muller.

A prior of long latents, such as those of 4×32×32, is low-rank plus diagonal: its mixtures have a
few coordinates, along the principal directions of the latents, and the rest is independent noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, UsageError
from .files.json_fields import take, take_array
from .labels import Labels, class_index
from .rng import (
    Start,
    check_sampling,
    check_start,
    fresh_seed,
    normal_cdf,
    normals,
    random_words,
    uniforms,
)

KINDS = ("normal", "uniform", "gaussian", "gmm", "class_gmm")
_BOX = ("low", "high")
_MIXTURES = ("weights", "mean", "cholesky")
_LOW_RANK = ("center", "directions", "residual")
ARRAYS = (*_BOX, *_MIXTURES, *_LOW_RANK)
_MAX_DIMENSIONS = 65_536
_MAX_DIRECTIONS = 256
BELOW_ONE = 1 - 2**-24  # the largest float32 below 1

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Prior:
    """A prior over latents; its arrays are checked at construction.

    Attributes:
        kind: `normal` (N(0, I)), `uniform` (a box), `gaussian`, `gmm`, or `class_gmm`.
        latent_dim: D.
        low, high: f64[D], the bounds of `uniform`.
        weights: f64[R, M], weights of M components in R mixtures. R is 1, but classes + 1 for
            `class_gmm`; the last mixture is then for unlabelled latents.
        mean: f64[R, M, K], the mean of each component.
        cholesky: f64[R, M, K(K+1)/2], the lower Cholesky factor of each covariance, row by row.
        directions: f64[K, D], orthonormal rows: the mixtures are over coordinates c f64[K], and
            z = center + c · directions + residual * (noise orthogonal to the directions). None
            means that the mixtures are over the latents themselves, so K is D.
        center: f64[D], the latents at coordinates of 0; only with `directions`.
        residual: f64[D], factors of the noise; only with `directions`.
        classes: the names that labels may use; not part of `to_json`.

    Raises:
        InputError: the kind is unknown, an array is missing or has the wrong shape, or a number is
            not finite.
    """

    kind: str
    latent_dim: int
    low: Floats | None = None
    high: Floats | None = None
    weights: Floats | None = None
    mean: Floats | None = None
    cholesky: Floats | None = None
    center: Floats | None = None
    directions: Floats | None = None
    residual: Floats | None = None
    classes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows = "" if self.weights is None else f", {self.rows} × {self.weights.shape[1]} Gaussians"
        return f"<Prior {self.kind}, latent_dim {self.latent_dim}{rows}>"

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 1 <= self.latent_dim <= _MAX_DIMENSIONS:
            raise InputError(
                f"prior: kind {self.kind!r} of {self.latent_dim} dimensions, expected one of "
                f"{KINDS} of 1 to {_MAX_DIMENSIONS}"
            )
        given = tuple(name for name in ARRAYS if getattr(self, name) is not None)
        low_rank = _LOW_RANK if self.directions is not None else ()
        expected = {"normal": (), "uniform": _BOX}.get(self.kind, (*_MIXTURES, *low_rank))
        if given != expected:
            raise InputError(
                f"prior: {self.kind} has the arrays {', '.join(given) or 'none'}, "
                f"expected {', '.join(expected) or 'none'}"
            )
        if self.low is not None and self.high is not None:
            self._check_box(self.low, self.high)
        if self._low_rank is not None:
            self._check_low_rank(*self._low_rank)
        if self.weights is not None and self.mean is not None and self.cholesky is not None:
            self._check_mixtures(self.weights, self.mean, self.cholesky)

    @classmethod
    def normal(cls, latent_dim: int) -> Prior:
        """Return N(0, I) in `latent_dim` dimensions."""
        return cls("normal", latent_dim)

    @classmethod
    def from_json(cls, data: dict[str, Any], classes: tuple[str, ...] = ()) -> Prior:
        """Build a prior from the output of `to_json` and the names of the model's classes.

        Raises:
            InputError: a value is missing or has the wrong type; see also `Prior`.
        """
        kind, dim = take(data, "kind", str, "prior"), take(data, "latent_dim", int, "prior")
        names = [name for name in ARRAYS if name in data]
        arrays = {name: take_array(data, name, "prior") for name in names}
        return cls(kind, dim, **arrays, classes=classes)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary with arrays as lists, rounded to six significant digits."""
        data: dict[str, Any] = {"kind": self.kind, "latent_dim": self.latent_dim}
        for name in ARRAYS:
            array = getattr(self, name)
            if array is not None:
                data[name] = _rounded(array.tolist())
        return data

    @property
    def rows(self) -> int:
        """The number of mixtures: classes + 1 for `class_gmm`, else 1."""
        return 1 if self.weights is None else len(self.weights)

    @property
    def coordinates(self) -> int:
        """K, the number of coordinates: the directions of a low-rank prior, else D."""
        return self.latent_dim if self.directions is None else len(self.directions)

    def sample(
        self,
        n: int,
        label: Labels = None,
        seed: int | None = None,
        *,
        start: Start = 0,
        temperature: float = 1.0,
        truncation: float | None = None,
    ) -> NDArray[np.float32]:
        """Sample latents `start` to `start + n - 1` of the endless sequence of a seed.

        Args:
            n: number of latents.
            label: for `class_gmm`, one class index or name for all latents, or one per latent; None
                or the index after the last class means no label. Other kinds ignore it.
            seed: 0 to 2**64 - 1; None picks a random one.
            start: index of the first latent, or i64[n], the index of each latent.
            temperature: factor for the spread around each component's mean; 0 gives the means.
            truncation: redraw each standard normal until it is within ± this bound.

        Returns:
            f32[n, D].

        Raises:
            UsageError: a number is out of range, a name is unknown, or `label` is neither one class
                nor n classes.
        """
        check_sampling(n, seed, temperature, truncation)
        check_start(start, n)
        seed = fresh_seed() if seed is None else seed
        return self.sample_checked(n, label, seed, start, temperature, truncation)

    def sample_checked(
        self,
        n: int,
        label: Labels,
        seed: int,
        start: Start,
        temperature: float,
        truncation: float | None,
    ) -> NDArray[np.float32]:
        """Sample without checks, for callers that checked the arguments of all batches at once."""
        rows = self._rows_of(label, n)
        words = random_words(seed, start, n, self.latent_dim)
        if self.kind == "uniform":
            signed = 2 * uniforms(words[:, 1 : 1 + self.latent_dim]) - 1
            return self._in_box(temperature * signed).astype(np.float32)
        eps = temperature * normals(words[:, 1:], self.latent_dim, truncation)
        return self._from_normals(uniforms(words[:, :1]), eps, rows).astype(np.float32)

    def transform(
        self, noise: NDArray[np.floating[Any]], label: Labels = None
    ) -> NDArray[np.float32]:
        """Turn standard normals into latents of this prior, as a bundle's `sampler.onnx` does.

        Args:
            noise: f32[n, D + 1]. The first column picks the component of a mixture, and the others
                are the noise around its mean; scaling them scales the spread of the latents.
            label: as for `sample`.

        Returns:
            f32[n, D].

        Raises:
            InputError: the noise has another shape.
            UsageError: `label` is neither one integer nor n integers, or out of range.
        """
        if noise.ndim != 2 or noise.shape[1] != self.latent_dim + 1:
            raise InputError(f"noise: {list(noise.shape)}, expected [N, {self.latent_dim + 1}]")
        rows, eps = self._rows_of(label, len(noise)), noise[:, 1:].astype(np.float64)
        if self.kind == "uniform":
            return self._in_box(2 * normal_cdf(eps) - 1).astype(np.float32)
        first = np.minimum(normal_cdf(noise[:, :1].astype(np.float64)), BELOW_ONE)
        return self._from_normals(first, eps, rows).astype(np.float32)

    def spread(self, label: int | None = None) -> tuple[Floats, Floats]:
        """Return two arrays f64[D]: each dimension's mean and each dimension's standard deviation.

        For `class_gmm`, they describe the class `label`; None means unlabelled latents.
        """
        mean, std = self.spread_of_coordinates(label)
        if self._low_rank is None:
            return mean, std
        center, directions, residual = self._low_rank
        covariance = self._covariance(self._rows_of(label, 1)[0])
        within = (covariance @ directions * directions).sum(axis=0)
        rest = residual**2 * (1 - (directions**2).sum(axis=0)).clip(0)
        return center + mean @ directions, np.sqrt(within + rest)

    def spread_of_coordinates(self, label: int | None = None) -> tuple[Floats, Floats]:
        """Return each coordinate's mean and each coordinate's standard deviation, both f64[K]."""
        if self.low is not None and self.high is not None:
            return (self.low + self.high) / 2, (self.high - self.low) / np.sqrt(12)
        if self.weights is None or self.mean is None:
            return np.zeros(self.latent_dim), np.ones(self.latent_dim)
        assert self.cholesky is not None
        row = self._rows_of(label, 1)[0]
        weights, means = self.weights[row][:, None], self.mean[row]
        # The diagonal of L·Lᵀ is the sum of squares of each row of the packed factor.
        starts = [i * (i + 1) // 2 for i in range(self.coordinates)]
        variances = np.add.reduceat(self.cholesky[row] ** 2, starts, axis=1)
        mean = (weights * means).sum(axis=0)
        variance = (weights * (variances + (means - mean) ** 2)).sum(axis=0)
        return mean, np.sqrt(variance)

    @property
    def _low_rank(self) -> tuple[Floats, Floats, Floats] | None:
        """Center, directions and residual, if this prior has them."""
        if self.center is None or self.directions is None or self.residual is None:
            return None
        return self.center, self.directions, self.residual

    @cached_property
    def cumulative_weights(self) -> Floats:
        """The cumulative weights f64[R, M], normalised because the stored weights are rounded."""
        assert self.weights is not None
        total = np.cumsum(self.weights, axis=1, dtype=np.float64)
        return total / total[:, -1:]

    @property
    def factors(self) -> Floats:
        """The Cholesky factors, unpacked: lower triangles f64[R, M, K, K]."""
        assert self.cholesky is not None
        k = self.coordinates
        unpacked = np.zeros((*self.cholesky.shape[:2], k, k))
        rows, columns = np.tril_indices(k)
        unpacked[..., rows, columns] = self.cholesky
        return unpacked

    def _in_box(self, signed: Floats) -> Floats:
        """Scale numbers from [-1, 1] to the box."""
        assert self.low is not None
        assert self.high is not None
        return (self.low + self.high) / 2 + (self.high - self.low) / 2 * signed

    def _from_normals(self, first: Floats, eps: Floats, rows: NDArray[np.intp]) -> Floats:
        """Turn normals f64[n, D] into latents; `first` f64[n, 1] in [0, 1) picks the component."""
        if self.weights is None:
            return eps
        component = (first >= self.cumulative_weights[rows]).sum(axis=1)
        if self._low_rank is None:
            return self._place(eps, rows, component)
        center, _, residual = self._low_rank
        # The projection of standard normals and the rest of them are independent.
        projected = self._project(eps)
        coordinates = self._place(projected, rows, component)
        rest = residual * (eps - self._lift(projected))
        return center + self._lift(coordinates) + rest

    def _place(self, eps: Floats, row: NDArray[np.intp], component: NDArray[np.intp]) -> Floats:
        """Compute mean + L·eps, one column of L at a time.

        Unlike a matrix product, these sums give the same bits for any batch size.
        """
        assert self.mean is not None
        assert self.cholesky is not None
        z = self.mean[row, component]
        for j in range(self.coordinates):
            below = np.arange(j, self.coordinates)  # L[i, j] is at index i·(i+1)/2 + j
            column = self.cholesky[row[:, None], component[:, None], below * (below + 1) // 2 + j]
            z[:, j:] += column * eps[:, j, None]
        return z

    def _project(self, z: Floats) -> Floats:
        """Project f64[n, D] to coordinates f64[n, K], with the same bits for any n."""
        assert self.directions is not None
        return np.stack([(z * direction).sum(axis=1) for direction in self.directions], axis=1)

    def _lift(self, coordinates: Floats) -> Floats:
        """Combine the directions, f64[n, K] → f64[n, D], with the same bits for any n."""
        assert self.directions is not None
        z = np.zeros((len(coordinates), self.latent_dim))
        for k, direction in enumerate(self.directions):
            z += coordinates[:, k, None] * direction
        return z

    def _covariance(self, row: int | np.intp) -> Floats:
        """Compute the covariance of one mixture, f64[K, K]."""
        assert self.weights is not None
        assert self.mean is not None
        total = np.zeros((self.coordinates, self.coordinates))
        mean = self.weights[row] @ self.mean[row]
        components = zip(self.weights[row], self.mean[row], self.factors[row], strict=True)
        for weight, own, factor in components:
            total += weight * (factor @ factor.T + np.outer(own - mean, own - mean))
        return total

    def _rows_of(self, label: Labels, n: int) -> NDArray[np.intp]:
        """Return the index of the mixture for each of n latents; None selects the last mixture."""
        if self.kind != "class_gmm" or label is None:
            return np.full(n, self.rows - 1, np.intp)
        labels = np.asarray(label)
        if labels.dtype.kind == "U":
            names = [class_index(str(name), self.classes) for name in labels.ravel()]
            labels = np.array(names, np.int64).reshape(labels.shape)
        if labels.dtype.kind not in "iu" or labels.shape not in ((), (n,)):
            raise UsageError(
                f"label is {labels.dtype}{list(labels.shape)}, expected one integer or int64[{n}]"
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < self.rows):
            raise UsageError(
                f"label runs from {labels.min()} to {labels.max()}, expected 0 to {self.rows - 1}"
            )
        return np.broadcast_to(labels.astype(np.intp), (n,))

    def _check_box(self, low: Floats, high: Floats) -> None:
        _check_array("low", low, (self.latent_dim,))
        _check_array("high", high, (self.latent_dim,))
        if (low > high).any():
            raise InputError("prior: low is above high, expected low <= high")

    def _check_low_rank(self, center: Floats, directions: Floats, residual: Floats) -> None:
        k = len(directions) if directions.ndim == 2 else 0
        _check_array("center", center, (self.latent_dim,))
        _check_array("directions", directions, (k, self.latent_dim))
        _check_array("residual", residual, (self.latent_dim,))
        if not 1 <= k <= min(_MAX_DIRECTIONS, self.latent_dim) or residual.min() < 0:
            raise InputError(
                f"prior: {k} directions of {self.latent_dim} dimensions, expected 1 to "
                f"{min(_MAX_DIRECTIONS, self.latent_dim)}, with a residual of 0 or more"
            )
        if np.abs(directions @ directions.T - np.eye(k)).max() > 1e-3:
            raise InputError("prior: directions are not orthonormal")

    def _check_mixtures(self, weights: Floats, mean: Floats, cholesky: Floats) -> None:
        k = self.coordinates
        rows, m = weights.shape if weights.ndim == 2 else (0, 0)
        _check_array("weights", weights, (rows, m))
        _check_array("mean", mean, (rows, m, k))
        _check_array("cholesky", cholesky, (rows, m, k * (k + 1) // 2))
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


def _check_array(name: str, array: Floats, shape: tuple[int, ...]) -> None:
    if array.shape != shape or not np.isfinite(array).all():
        raise InputError(f"prior: {name} has shape {array.shape}, expected {shape}, all finite")


def _rounded(value: Any) -> Any:
    return [_rounded(v) for v in value] if isinstance(value, list) else float(f"{value:.6g}")
