"""How well a model knows its images: squared error, KL, ELBO, IWAE bound, active units.

Everything here works on functions that encode and decode, and needs NumPy alone. Likelihoods, KL
and bounds are in nats; they are summed over pixels and latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import to_float32
from .errors import UsageError
from .inference.batching import BATCH_SIZE
from .prior import Prior
from .rng import uniforms

BINARISE = ("sample", "threshold", "none")
ACTIVE = 0.01  # variance of the mean over the data (Burda et al. 2015, section 5.2)
_SAMPLES_AT_ONCE = 256  # noise vectors held per image
_LEAST_PROBABILITY = np.float32(1e-7)  # of a pixel, to avoid the logarithm of 0

Floats: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = "NDArray[np.int64] | None"


@dataclass(frozen=True)
class Codec:
    """What the metrics need of a model: its encoder and decoder as functions.

    Attributes:
        posterior: images f32[N, C, H, W] and labels i64[N] or None → mu and log_var, each
            f32[N, D]; log_var is None for an AE.
        decode: z f32[N, D] and labels → images f32[N, C, H, W].
        likelihood: `bernoulli` or `gaussian`.
        sigma: standard deviation of a pixel in a `gaussian` likelihood, if one was learned.
    """

    posterior: Callable[[Floats, Labels], tuple[Floats, Floats | None]]
    decode: Callable[[Floats, Labels], Floats]
    likelihood: str
    sigma: float | None = None

    def negative_log_likelihood(
        self, z: Floats, labels: Labels, images: Floats, zeros: Floats | None = None
    ) -> NDArray[np.float64]:
        """-log p(image | z), f64[N]; see the function of this name."""
        decoded = self.decode(z, labels)
        return negative_log_likelihood(decoded, images, self.likelihood, self.sigma, zeros)


class Scores(NamedTuple):
    """Scores per image, each f64[N]; sums over pixels and latent dimensions.

    Attributes:
        error: mean squared error per pixel of the reconstruction from the posterior mean.
        kl: KL(q(z | image) ‖ N(0, I)) in nats; 0 for an AE.
        negative_elbo: -log p(image | z) + KL in nats, z sampled from q; the first term alone for an
            AE. A Gaussian likelihood is a density, so it falls below 0 where images are close.
            Without a learned sigma it is the squared error.
    """

    error: NDArray[np.float64]
    kl: NDArray[np.float64]
    negative_elbo: NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """Means over a data set, in nats; sums over pixels and latent dimensions.

    Attributes:
        n: number of images.
        labels: whether the model was given the class of each image.
        mse: mean squared error per pixel of the reconstruction from the posterior mean, on the
            images as they are, not binarised.
        kl: KL(q(z | x) ‖ N(0, I)); None for an AE, as are all fields below.
        negative_elbo: -ELBO, estimated from `samples` samples per image.
        iwae: the importance-weighted bound on -log p(x) (Burda et al. 2015, arXiv 1509.00519).
        samples: K, posterior samples per image.
        binarised: how pixels were binarised before the encoder and the likelihood.
        likelihood: `bernoulli` or `gaussian`.
        active_units: latent dimensions whose mean varies over the data.
        latent_dim: D.
    """

    n: int
    labels: bool
    mse: float
    kl: float | None
    negative_elbo: float | None
    iwae: float | None
    samples: int
    binarised: str
    likelihood: str
    active_units: int | None
    latent_dim: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def score(
    codec: Codec, images: NDArray[Any], labels: Labels, samples: int, seed: int, start: int = 0
) -> Scores:
    """Score checked images, batch by batch.

    Args:
        codec: the model.
        images: u8 or f32 [N, C, H, W].
        labels: i64[N], or None to score without labels.
        samples: posterior samples per image for the negative ELBO.
        seed: seed of these samples; image i gets the same ones whatever is scored beside it.
        start: the index of the first image.

    Raises:
        UsageError: fewer than one sample.
    """
    if samples < 1:
        raise UsageError(f"samples is {samples}, expected 1 or more")
    n = len(images)
    scores = Scores(np.zeros(n), np.zeros(n), np.zeros(n))
    for first in range(0, n, BATCH_SIZE):
        rows = slice(first, min(first + BATCH_SIZE, n))
        x, label = to_float32(images[rows]), None if labels is None else labels[rows]
        mu, log_var = codec.posterior(x, label)
        decoded = codec.decode(mu, label)
        scores.error[rows] = np.square(decoded - x, dtype=np.float64).mean(axis=(1, 2, 3))
        if log_var is None:
            scores.negative_elbo[rows] = negative_log_likelihood(
                decoded, x, codec.likelihood, codec.sigma
            )
            continue
        nll = np.zeros(len(x))
        for z in posterior_samples(mu, log_var, samples, seed, start + first):
            nll += codec.negative_log_likelihood(z, label, x) / samples
        scores.kl[rows] = kl_to_standard_normal(mu, log_var)
        scores.negative_elbo[rows] = nll + scores.kl[rows]
    return scores


def evaluate(
    codec: Codec,
    images: NDArray[Any],
    labels: Labels = None,
    *,
    samples: int = 16,
    binarise: str | None = None,
    seed: int = 0,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Evaluation:
    """Evaluate a model on a data set.

    Args:
        codec: the model.
        images: checked images, u8 or f32 [N, C, H, W].
        labels: i64[N], given to encoder and decoder; None evaluates without labels.
        samples: K of the IWAE bound, posterior samples per image.
        binarise: `sample` (each pixel is 1 with the probability of its grey level), `threshold` (at
            one half) or `none`. The default is `sample` for a Bernoulli likelihood and `none` for a
            Gaussian one, which takes no other.
        seed: seed of the binarised pixels and the posterior samples.
        track: wraps the iterable of batch starts, to show progress.

    Raises:
        UsageError: no images, no samples, or a binarisation that does not fit the likelihood.
    """
    binarise = _binarisation(binarise, codec.likelihood)
    if samples < 1 or not len(images):
        raise UsageError(
            f"{len(images)} images and {samples} samples, expected at least one of each"
        )
    n = len(images)
    squared_error, bounds, moments = 0.0, np.zeros(3), np.zeros((2, 1))
    plain = False
    for first in track(range(0, n, BATCH_SIZE)):
        rows = slice(first, min(first + BATCH_SIZE, n))
        grey, label = to_float32(images[rows]), None if labels is None else labels[rows]
        mu, log_var = codec.posterior(grey, label)
        again = codec.decode(mu, label)
        squared_error += float(np.square(again - grey, dtype=np.float64).mean((1, 2, 3)).sum())
        means = mu.astype(np.float64)
        moments = moments + np.stack([means.sum(axis=0), (means**2).sum(axis=0)])
        plain = log_var is None
        if not plain:
            x = _binarised(grey, binarise, seed, first)
            bounds += _bounds(codec, x, label, binarise != "none", samples, seed, first, n)
    kl, elbo, iwae = (None if plain else float(total) for total in bounds / n)
    variance = moments[1] / n - (moments[0] / n) ** 2
    return Evaluation(
        n=n,
        labels=labels is not None,
        mse=squared_error / n,
        kl=kl,
        negative_elbo=elbo,
        iwae=iwae,
        samples=samples,
        binarised=binarise,
        likelihood=codec.likelihood,
        active_units=None if plain else int((variance > ACTIVE).sum()),
        latent_dim=moments.shape[1],
    )


def _bounds(
    codec: Codec,
    x: Floats,
    label: Labels,
    binary: bool,
    samples: int,
    seed: int,
    first: int,
    n: int,
) -> NDArray[np.float64]:
    """Sums over a batch of KL, -ELBO and -IWAE, f64[3]; sample k of image i is number k·n + i."""
    mu, log_var = codec.posterior(x, label)
    assert log_var is not None
    zeros = 1 - x if binary else None
    nll, weight = np.zeros(len(x)), np.full(len(x), -np.inf)
    for k in range(samples):
        z = sample_posterior(mu, log_var, seed, k * n + first)
        one = codec.negative_log_likelihood(z, label, x, zeros)
        nll += one / samples
        weight = np.logaddexp(weight, -one + log_prior_ratio(z, mu, log_var))
    kl = kl_to_standard_normal(mu, log_var)
    return np.array([kl.sum(), (nll + kl).sum(), (np.log(samples) - weight).sum()])


def _binarisation(chosen: str | None, likelihood: str) -> str:
    allowed = BINARISE if likelihood == "bernoulli" else ("none",)
    chosen = chosen or allowed[0]
    if chosen not in allowed:
        raise UsageError(
            f"binarise is {chosen!r}, expected {' or '.join(allowed)} for {likelihood}"
        )
    return chosen


def _binarised(grey: Floats, how: str, seed: int, first: int) -> Floats:
    if how == "none":
        return grey
    if how == "threshold":
        return (grey >= 0.5).astype(np.float32)
    # Counter-based, so that an image gets the same pixels whatever the batches.
    pixels = grey[0].size
    blocks = -(-pixels // 4)
    key = np.array([seed, 1], np.uint64)
    words = np.random.Philox(key=key, counter=first * blocks).random_raw(len(grey) * blocks * 4)
    level = uniforms(words).reshape(len(grey), -1)[:, :pixels].reshape(grey.shape)
    drawn: Floats = (level < grey).astype(np.float32)
    return drawn


def sample_posterior(mu: Floats, log_var: Floats, seed: int, start: int) -> Floats:
    """Sample z ~ N(mu, exp(log_var)) once per image, f32[N, D]: noise `start` … of `seed`."""
    eps = Prior.normal(mu.shape[1]).sample(len(mu), seed=seed, start=start)
    z: Floats = mu + np.exp(0.5 * log_var) * eps
    return z


def posterior_samples(
    mu: Floats, log_var: Floats, samples: int, seed: int, start: int
) -> Iterator[Floats]:
    """`samples` times z ~ N(mu, exp(log_var)), each f32[N, D], for the images `start` ….

    Sample k of image i is number i · samples + k of the seed, whatever is beside that image.
    """
    n, dim = mu.shape
    normal, sigma = Prior.normal(dim), np.exp(0.5 * log_var)
    for k in range(0, samples, _SAMPLES_AT_ONCE):
        count = min(_SAMPLES_AT_ONCE, samples - k)
        if count == samples:  # the noise of all images lies side by side
            eps = normal.sample(n * samples, seed=seed, start=start * samples)
            eps = eps.reshape(n, samples, dim)
        else:
            starts = [(start + i) * samples + k for i in range(n)]
            eps = np.stack([normal.sample(count, seed=seed, start=start) for start in starts])
        for noise in eps.transpose(1, 0, 2):
            z: Floats = mu + sigma * noise
            yield z


def kl_to_standard_normal(mu: Floats, log_var: Floats) -> NDArray[np.float64]:
    """KL(N(mu, exp(log_var)) ‖ N(0, I)) in nats, f64[N] (Kingma & Welling 2014, appendix B)."""
    m, v = mu.astype(np.float64), log_var.astype(np.float64)
    total: NDArray[np.float64] = 0.5 * (m**2 + np.exp(v) - 1 - v).sum(axis=1)
    return total


def log_prior_ratio(z: Floats, mu: Floats, log_var: Floats) -> NDArray[np.float64]:
    """Log N(z; 0, I) - log N(z; mu, exp(log_var)), f64[N]: IWAE's weight without the likelihood."""
    code, v = z.astype(np.float64), log_var.astype(np.float64)
    noise = (code - mu) ** 2 * np.exp(-v)
    total: NDArray[np.float64] = 0.5 * (noise + v - code**2).sum(axis=1)
    return total


def negative_log_likelihood(
    decoded: Floats,
    images: Floats,
    likelihood: str,
    sigma: float | None = None,
    zeros: Floats | None = None,
) -> NDArray[np.float64]:
    """-log p(image | z), f64[N], summed over pixels.

    Args:
        decoded: the decoder's images f32[N, C, H, W].
        images: the images themselves, in [0, 1].
        likelihood: `bernoulli` (cross-entropy in nats, pixels read as probabilities) or `gaussian`.
        sigma: standard deviation of a pixel in a `gaussian` likelihood. Without it the result is
            the squared error, which is the Gaussian likelihood of variance 1/2 up to a constant.
        zeros: 1 - images, if images are binarised. Each pixel then has one probability instead of
            two, and a few pixels share one logarithm.
    """
    if likelihood == "gaussian":
        each = np.square(decoded - images, dtype=np.float64)
        if sigma is not None:
            each = each / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
    elif zeros is not None:
        return _binary_cross_entropy(decoded, zeros)
    else:
        # Logarithms of float32 are vectorised, ten times as fast as of float64; 1 - p is exact
        # where it is small. Only the sum needs more digits.
        each = np.clip(decoded, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        off = np.subtract(1, each, dtype=np.float32)
        np.log(each, out=each)
        np.log(off, out=off)
        each -= off
        each *= images
        each += off
        np.negative(each, out=each)
    total: NDArray[np.float64] = each.sum(axis=(1, 2, 3), dtype=np.float64)
    return total


def _binary_cross_entropy(decoded: Floats, zeros: Floats) -> NDArray[np.float64]:
    """Cross-entropy f64[N] of pixels that are 0 or 1; `zeros` is 1 where they are 0."""
    each = np.clip(decoded, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    np.subtract(each, zeros, out=each)  # p of a 1, p - 1 of a 0
    each = np.abs(each, out=each).reshape(len(each), -1)
    for _ in range(2):  # the product of four pixels is above 1e-28, which float32 still holds
        half, odd = divmod(each.shape[1], 2)
        if not odd:
            each = np.multiply(each[:, :half], each[:, half:])
    np.log(each, out=each)
    total: NDArray[np.float64] = -each.sum(axis=1, dtype=np.float64)
    return total
