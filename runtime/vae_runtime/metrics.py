"""Metrics of a model on images: squared error, KL, ELBO, IWAE bound, active units.

The metrics access a model through two functions, so they do not need onnxruntime. Likelihoods, KL
and bounds are in nats, summed over pixels and latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .arrays import check_whole, to_float32
from .errors import UsageError
from .inference.batching import BATCH_SIZE
from .prior import Prior
from .rng import Start, check_seed, check_start, uniforms

BINARISE = ("sample", "threshold", "none")
# A latent dimension is active if the variance of its mean exceeds this (Burda et al. 2015,
# section 5.2).
ACTIVE = 0.01
_SAMPLES_AT_ONCE = 256  # noise vectors in memory per image
_MIN_PROBABILITY = np.float32(1e-7)  # for pixel probabilities, to avoid the logarithm of 0

Floats: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = "NDArray[np.int64] | None"


@dataclass(frozen=True)
class Codec:
    """The metrics' view of a model: an encoder function, a decoder function and a likelihood.

    Attributes:
        posterior: (images f32[N, C, H, W], labels i64[N] or None) → (mu, log_var), each
            f32[N, *latent_shape]; log_var is None for an AE.
        decode: (z f32[N, D], labels i64[N] or None) → images f32[N, C, H, W].
        likelihood: `bernoulli` or `gaussian`.
        sigma: standard deviation per pixel of a `gaussian` likelihood, if one was learned.
    """

    posterior: Callable[[Floats, Labels], tuple[Floats, Floats | None]]
    decode: Callable[[Floats, Labels], Floats]
    likelihood: str
    sigma: float | None = None

    def encode(self, images: Floats, labels: Labels) -> tuple[Floats, Floats | None]:
        """Return mu and log_var, flattened to f32[N, D]."""
        mu, log_var = self.posterior(images, labels)
        return mu.reshape(len(mu), -1), None if log_var is None else log_var.reshape(len(mu), -1)

    def negative_log_likelihood(
        self, z: Floats, labels: Labels, images: Floats, zeros: Floats | None = None
    ) -> NDArray[np.float64]:
        """Decode z and return -log p(image | z), f64[N]; see the module's function of that name."""
        decoded = self.decode(z, labels)
        return negative_log_likelihood(decoded, images, self.likelihood, self.sigma, zeros)


class Scores(NamedTuple):
    """Scores per image, each f64[N].

    Attributes:
        mse: mean squared error per pixel of the reconstruction from the posterior mean.
        kl: KL(q(z | image) ‖ N(0, I)) in nats; 0 for an AE.
        negative_elbo: -log p(image | z) + KL in nats, with z sampled from q; for an AE, only the
            first term. A Gaussian likelihood is a density, so close reconstructions give negative
            values. Without a learned sigma, the first term is the squared error.
    """

    mse: NDArray[np.float64]
    kl: NDArray[np.float64]
    negative_elbo: NDArray[np.float64]

    def __repr__(self) -> str:
        means = [f"{name} {np.mean(values):.4g}" for name, values in self._asdict().items()]
        n = len(self.mse)
        return f"<Scores of {n} images: mean {', '.join(means)}>" if n else "<Scores of 0 images>"

    def _repr_html_(self) -> str:
        from .html import columns_html

        return columns_html(self._asdict())


@dataclass(frozen=True)
class Evaluation:
    """Means over a data set. KL and bounds are in nats per image; for an AE, they are None.

    Attributes:
        n: number of images.
        labels: whether the model was given the class of each image.
        mse: mean squared error per pixel of the reconstruction from the posterior mean; measured on
            the original images, not on binarised ones.
        kl: KL(q(z | x) ‖ N(0, I)).
        negative_elbo: -ELBO, estimated from `samples` samples per image.
        iwae: the importance-weighted bound on -log p(x) (Burda et al. 2015, arXiv 1509.00519).
        samples: K, the number of posterior samples per image.
        binarised: how pixels were binarised for the encoder and the likelihood.
        likelihood: `bernoulli` or `gaussian`.
        active_units: number of latent dimensions whose mean varies across images; None for an AE.
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
        """Return the fields as a dictionary."""
        return asdict(self)


def score(
    codec: Codec, images: NDArray[Any], labels: Labels, samples: int, seed: int, start: Start = 0
) -> Scores:
    """Score checked images batch by batch.

    Args:
        codec: the model.
        images: u8 or f32 [N, C, H, W].
        labels: i64[N], or None to score without labels.
        samples: posterior samples per image for the negative ELBO.
        seed: seed for these samples; image i gets the same samples for any batch size.
        start: index of the first image in its data set, or i64[N], the index of each image.

    Raises:
        UsageError: `samples`, `seed` or `start` is not what it should be.
    """
    n = len(images)
    check_whole("samples", samples, 1)
    check_seed(seed)
    check_start(start, n)
    scores = Scores(np.zeros(n), np.zeros(n), np.zeros(n))
    for first in range(0, n, BATCH_SIZE):
        rows = slice(first, min(first + BATCH_SIZE, n))
        x, label = to_float32(images[rows]), None if labels is None else labels[rows]
        mu, log_var = codec.encode(x, label)
        decoded = codec.decode(mu, label)
        scores.mse[rows] = np.square(decoded - x, dtype=np.float64).mean(axis=(1, 2, 3))
        if log_var is None:
            scores.negative_elbo[rows] = negative_log_likelihood(
                decoded, x, codec.likelihood, codec.sigma
            )
            continue
        nll = np.zeros(len(x))
        index = start[rows] if isinstance(start, np.ndarray) else start + first
        for z in posterior_samples(mu, log_var, samples, seed, index):
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
        labels: i64[N] for encoder and decoder, or None for no labels.
        samples: posterior samples per image, the K of the IWAE bound.
        binarise: `sample` (each pixel is 1 with probability equal to its grey level), `threshold`
            (at one half) or `none`. The default is `sample` for a Bernoulli likelihood and `none`
            for a Gaussian one, which allows only `none`.
        seed: seed for the binarised pixels and the posterior samples.
        track: wraps the iterable of batch start indices, for example to show progress.

    Raises:
        UsageError: there are no images or samples, or `binarise` does not fit the likelihood.
    """
    binarise = _binarisation(binarise, codec.likelihood)
    check_whole("samples", samples, 1)
    check_seed(seed)
    if not len(images):
        raise UsageError("0 images, expected 1 or more")
    n = len(images)
    squared_error, bounds, moments = 0.0, np.zeros(3), np.zeros((2, 1))
    plain = False
    for first in track(range(0, n, BATCH_SIZE)):
        rows = slice(first, min(first + BATCH_SIZE, n))
        grey, label = to_float32(images[rows]), None if labels is None else labels[rows]
        mu, log_var = codec.encode(grey, label)
        again = codec.decode(mu, label)
        squared_error += float(np.square(again - grey, dtype=np.float64).mean((1, 2, 3)).sum())
        means = mu.astype(np.float64)
        moments = moments + np.stack([means.sum(axis=0), (means**2).sum(axis=0)])
        plain = log_var is None
        if not plain:
            x = _binarised(grey, binarise, seed, first)
            bounds += _bounds(codec, x, label, binarise != "none", samples, seed, first, n)
    kl, negative_elbo, iwae = (None if plain else float(total) for total in bounds / n)
    variance = moments[1] / n - (moments[0] / n) ** 2
    return Evaluation(
        n=n,
        labels=labels is not None,
        mse=squared_error / n,
        kl=kl,
        negative_elbo=negative_elbo,
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
    """Sum KL, -ELBO and -IWAE over a batch: f64[3]. Sample k of image i uses noise k·n + i."""
    mu, log_var = codec.encode(x, label)
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
    # Counter-based, so that an image gets the same pixels for any batch size.
    pixels = grey[0].size
    blocks = -(-pixels // 4)
    key = np.array([seed, 1], np.uint64)
    words = np.random.Philox(key=key, counter=first * blocks).random_raw(len(grey) * blocks * 4)
    level = uniforms(words).reshape(len(grey), -1)[:, :pixels].reshape(grey.shape)
    drawn: Floats = (level < grey).astype(np.float32)
    return drawn


def sample_posterior(mu: Floats, log_var: Floats, seed: int, start: int) -> Floats:
    """Sample z ~ N(mu, exp(log_var)), f32[N, D], once per image; noise starts at index `start`."""
    eps = Prior.normal(mu.shape[1]).sample(len(mu), seed=seed, start=start)
    z: Floats = mu + np.exp(0.5 * log_var) * eps
    return z


def posterior_samples(
    mu: Floats, log_var: Floats, samples: int, seed: int, start: Start
) -> Iterator[Floats]:
    """Yield `samples` draws f32[N, D] of z ~ N(mu, exp(log_var)) for images from `start` on.

    Sample k of image i uses noise i · samples + k, so the samples do not depend on batch size.
    """
    n, dim = mu.shape
    normal, sigma = Prior.normal(dim), np.exp(0.5 * log_var)
    images = start if isinstance(start, np.ndarray) else start + np.arange(n)
    for k in range(0, samples, _SAMPLES_AT_ONCE):
        count = min(_SAMPLES_AT_ONCE, samples - k)
        first = images[:, None] * samples + k
        index = (first + np.arange(count)).reshape(-1)
        eps = normal.sample(n * count, seed=seed, start=index)
        for noise in eps.reshape(n, count, dim).transpose(1, 0, 2):
            z: Floats = mu + sigma * noise
            yield z


def kl_to_standard_normal(mu: Floats, log_var: Floats) -> NDArray[np.float64]:
    """Compute KL(N(mu, exp(log_var)) ‖ N(0, I)), f64[N] (Kingma & Welling 2014, appendix B)."""
    m, v = mu.astype(np.float64), log_var.astype(np.float64)
    total: NDArray[np.float64] = 0.5 * (m**2 + np.exp(v) - 1 - v).sum(axis=1)
    return total


def log_prior_ratio(z: Floats, mu: Floats, log_var: Floats) -> NDArray[np.float64]:
    """Compute log N(z; 0, I) - log N(z; mu, exp(log_var)), f64[N], a term of the IWAE weights."""
    latents, v = z.astype(np.float64), log_var.astype(np.float64)
    noise = (latents - mu) ** 2 * np.exp(-v)
    total: NDArray[np.float64] = 0.5 * (noise + v - latents**2).sum(axis=1)
    return total


def negative_log_likelihood(
    decoded: Floats,
    images: Floats,
    likelihood: str,
    sigma: float | None = None,
    zeros: Floats | None = None,
) -> NDArray[np.float64]:
    """Compute -log p(image | z), f64[N], in nats, summed over pixels.

    Args:
        decoded: the decoder's output f32[N, C, H, W].
        images: the original images f32[N, C, H, W] in [0, 1].
        likelihood: `bernoulli` (cross-entropy; pixels are probabilities) or `gaussian`.
        sigma: standard deviation per pixel of a `gaussian` likelihood. If None, the result is the
            squared error: up to a constant, -log p for a variance of 1/2.
        zeros: 1 - images, for binarised images only; selects a faster computation.
    """
    if likelihood == "gaussian":
        each = np.square(decoded - images, dtype=np.float64)
        if sigma is not None:
            each = each / (2 * sigma**2) + 0.5 * np.log(2 * np.pi * sigma**2)
    elif zeros is not None:
        return _binary_cross_entropy(decoded, zeros)
    else:
        # float32 logarithms are vectorised and ten times as fast as float64 ones, and 1 - p is
        # exact where it is small. Only the sum needs more precision.
        each = np.clip(decoded, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
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
    """Compute the cross-entropy f64[N] for pixels that are 0 or 1; `zeros` is 1 where they are 0.

    Each pixel needs one probability instead of two, and one logarithm serves four pixels.
    """
    each = np.clip(decoded, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    np.subtract(each, zeros, out=each)  # p where the pixel is 1, p - 1 where it is 0
    each = np.abs(each, out=each).reshape(len(each), -1)
    for _ in range(2):  # products of four probabilities are at least 1e-28, a normal float32
        half, odd = divmod(each.shape[1], 2)
        if not odd:
            each = np.multiply(each[:, :half], each[:, half:])
    np.log(each, out=each)
    total: NDArray[np.float64] = -each.sum(axis=1, dtype=np.float64)
    return total
