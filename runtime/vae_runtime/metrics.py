"""How good a model is on a data set: squared error, ELBO, IWAE bound, active units. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import to_float32
from .errors import UsageError
from .inference.batching import BATCH_SIZE
from .prior import Prior

if TYPE_CHECKING:
    from typing import Any

    from .autoencoder import Autoencoder


BINARISE = ("sample", "threshold", "none")
ACTIVE = 0.01  # variance of the mean over the data (Burda et al. 2015, section 5.2)


@dataclass(frozen=True)
class Evaluation:
    """Means over the images; sums over pixels and latent dimensions, in nats.

    Attributes:
        n: images.
        labels: whether each image's class was given to the model.
        mse: squared error a pixel of the reconstruction from the mean code, on the grey images.
        kl: KL(q(z | x) ‖ N(0, I)); None for an AE, as all below.
        negative_elbo: -ELBO, the expectation over `draws` latents.
        iwae: the importance-weighted bound on -log p(x) (Burda et al. 2015, arXiv 1509.00519).
        draws: K, latents drawn for each image.
        binarised: what the pixels were turned into before the encoder and the likelihood.
        likelihood: how pixels are scored.
        active_units: dimensions whose mean varies over the data.
        latent_dim: of this many.
    """

    n: int
    labels: bool
    mse: float
    kl: float | None
    negative_elbo: float | None
    iwae: float | None
    draws: int
    binarised: str
    likelihood: str
    active_units: int | None
    latent_dim: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def evaluate(
    model: Autoencoder,
    images: NDArray[Any],
    labels: NDArray[np.int64] | None = None,
    *,
    draws: int = 16,
    binarise: str | None = None,
    seed: int = 0,
    watch: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Evaluation:
    """Evaluate a model.

    Args:
        model: an AE, VAE or CVAE.
        images: checked, u8 or f32 [N, C, H, W].
        labels: i64[N], given to encoder and decoder; None evaluates without.
        draws: K of the IWAE bound.
        binarise: `sample` (each pixel is 1 with its grey level's probability), `threshold` (at one
            half) or `none` (grey levels as they are). By default `sample` for a Bernoulli
            likelihood, `none` for a Gaussian one, which takes no other.
        seed: of the pixels and the latents.
        watch: passes the first index of each chunk through, to show progress.

    Raises:
        UsageError: no images, no draws, or a binarisation that does not fit.
    """
    kind = model.spec.likelihood
    binarise = binarise or ("sample" if kind == "bernoulli" else "none")
    if binarise not in BINARISE or (kind == "gaussian" and binarise != "none"):
        allowed = BINARISE if kind == "bernoulli" else ("none",)
        raise UsageError(f"binarise is {binarise!r}, expected {' or '.join(allowed)} for {kind}")
    if draws < 1 or not len(images):
        raise UsageError(f"{len(images)} images and {draws} draws, expected at least one of each")
    n = len(images)
    totals = np.zeros(4)
    moments = np.zeros((2, model.spec.latent_dim))
    for first in watch(range(0, n, BATCH_SIZE)):
        part = slice(first, min(first + BATCH_SIZE, n))
        label = None if labels is None else labels[part]
        grey = to_float32(images[part])
        chunk = _Chunk(model, grey, label, (first, n, draws, seed))
        totals[0] += chunk.squared_error()
        moments += chunk.moments()
        if model.spec.family != "ae":
            x = _binarised(grey, binarise, seed, first)
            totals[1:] += chunk.bounds(x, None if binarise == "none" else 1 - x)
    mse, kl, elbo, iwae = (float(t) for t in totals / n)
    variance = moments[1] / n - (moments[0] / n) ** 2
    plain = model.spec.family == "ae"
    return Evaluation(
        n, labels is not None, mse,
        None if plain else kl, None if plain else elbo, None if plain else iwae,
        draws, binarise, kind,
        None if plain else int((variance > ACTIVE).sum()), model.spec.latent_dim,
    )  # fmt: skip


@dataclass(frozen=True)
class _Chunk:
    """A chunk of images; `place` is (index of its first, N, K, seed)."""

    model: Autoencoder
    grey: NDArray[np.float32]
    label: NDArray[np.int64] | None
    place: tuple[int, int, int, int]

    def squared_error(self) -> float:
        again = self.model.reconstruct(self.grey, self.label)
        return float(np.square(again - self.grey, dtype=np.float64).mean(axis=(1, 2, 3)).sum())

    def moments(self) -> NDArray[np.float64]:
        """Sums of the mean latents and of their squares, f64[2, D]."""
        mu = self.model.encode(self.grey, self.label).astype(np.float64)
        return np.stack([mu.sum(axis=0), (mu**2).sum(axis=0)])

    def bounds(
        self, x: NDArray[np.float32], zeros: NDArray[np.float32] | None
    ) -> NDArray[np.float64]:
        """Sums over the chunk of KL, -ELBO and -IWAE, f64[3]; `zeros` is 1 - x, if binarised."""
        mu, log_var = self.model.posterior(x, self.label)
        assert log_var is not None
        kl = kl_to_standard_normal(mu, log_var)
        nll, weight = np.zeros(len(x)), np.full(len(x), -np.inf)
        for z in self._draws(mu, log_var):
            decoded = self.model.decode(z, self.label)
            spec = self.model.spec
            one = negative_log_likelihood(decoded, x, spec.likelihood, spec.sigma, zeros)
            nll += one / self.place[2]
            weight = np.logaddexp(weight, -one + log_prior_ratio(z, mu, log_var))
        iwae = np.log(self.place[2]) - weight
        return np.array([kl.sum(), (nll + kl).sum(), iwae.sum()])

    def _draws(
        self, mu: NDArray[np.float32], log_var: NDArray[np.float32]
    ) -> Iterator[NDArray[np.float32]]:
        first, n, draws, seed = self.place
        for k in range(draws):
            yield sample_posterior(mu, log_var, seed, k * n + first)


def _binarised(grey: NDArray[np.float32], how: str, seed: int, first: int) -> NDArray[np.float32]:
    if how == "none":
        return grey
    if how == "threshold":
        return (grey >= 0.5).astype(np.float32)
    # Counter-based, so that an image gets the same pixels whatever the chunks.
    words = grey[0].size
    blocks = -(-words // 4)
    key = np.array([seed, 1], np.uint64)
    noise = np.random.Philox(key=key, counter=first * blocks).random_raw(len(grey) * blocks * 4)
    unit = (noise >> np.uint64(11)).astype(np.float64) * 2.0**-53
    level = unit.reshape(len(grey), -1)[:, :words].reshape(grey.shape)
    drawn: NDArray[np.float32] = (level < grey).astype(np.float32)
    return drawn


class Scores(NamedTuple):
    """One number an image, each f64[N]; sums over pixels and latent dimensions.

    Attributes:
        error: squared error of the reconstruction from the mean code, a pixel.
        kl: KL(q(z | image) ‖ N(0, I)) in nats; 0 for an AE.
        negative_elbo: -log p(image | z) + KL in nats, z drawn from q; for an AE the first term.
            A Gaussian likelihood is a density: below 0 where images are close. One without a
            learned scale counts as the squared error.
    """

    error: NDArray[np.float64]
    kl: NDArray[np.float64]
    negative_elbo: NDArray[np.float64]


def score(
    model: Autoencoder,
    images: NDArray[Any],
    labels: NDArray[np.int64] | None,
    samples: int,
    seed: int,
    first: int = 0,
) -> Scores:
    """Score checked images, u8 or f32 [N, C, H, W], chunk by chunk.

    Args:
        model: whose likelihood is asked.
        images: what to score.
        labels: i64[N], or None to score without labels.
        samples: latents drawn from q(z | image) for the negative ELBO.
        seed: of those draws; image i gets the same draws whatever is scored beside it.
        first: the index of the first image.

    Raises:
        UsageError: fewer than one sample.
    """
    if samples < 1:
        raise UsageError(f"samples is {samples}, expected 1 or more")
    n = len(images)
    whole = Scores(np.zeros(n), np.zeros(n), np.zeros(n))
    for start in range(0, n, BATCH_SIZE):
        part = slice(start, min(start + BATCH_SIZE, n))
        label = None if labels is None else labels[part]
        found = _score_chunk(model, to_float32(images[part]), label, (samples, seed, first + start))
        for target, values in zip(whole, found, strict=True):
            target[part] = values
    return whole


def _score_chunk(
    model: Autoencoder,
    pixels: NDArray[np.float32],
    label: NDArray[np.int64] | None,
    draws: tuple[int, int, int],
) -> Scores:
    samples, seed, first = draws
    likelihood = model.spec.likelihood, model.spec.sigma
    mu, log_var = model.posterior(pixels, label)
    decoded = model.decode(mu, label)
    error = np.square(decoded - pixels, dtype=np.float64).mean(axis=(1, 2, 3))
    if log_var is None:
        nll = negative_log_likelihood(decoded, pixels, *likelihood)
        return Scores(error, np.zeros(len(pixels)), nll)
    nll = np.zeros(len(pixels))
    for z in posterior_samples(mu, log_var, samples, seed, first):
        nll += negative_log_likelihood(model.decode(z, label), pixels, *likelihood) / samples
    kl = kl_to_standard_normal(mu, log_var)
    return Scores(error, kl, nll + kl)


_DRAWS_AT_ONCE = 256  # of each image: how much noise is held
_LEAST = np.float32(1e-7)  # probability of a pixel: no logarithm of 0


def sample_posterior(
    mu: NDArray[np.float32], log_var: NDArray[np.float32], seed: int, start: int
) -> NDArray[np.float32]:
    """Draws z ~ N(mu, exp(log_var)), f32[N, D], with the noise `start` … of `seed`."""
    eps = Prior.normal(mu.shape[1]).sample(len(mu), seed=seed, start=start)
    z: NDArray[np.float32] = mu + np.exp(0.5 * log_var) * eps
    return z


def posterior_samples(
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
