"""How well a model knows an image: reconstruction error, KL, negative ELBO."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import latent
from .arrays import unit_floats
from .chunks import CHUNK
from .errors import UsageError

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from .autoencoder import Autoencoder


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
        samples: codes drawn from q(z | image) for the negative ELBO.
        seed: of those draws; image i gets the same draws whatever is scored beside it.
        first: the index of the first image.

    Raises:
        UsageError: fewer than one sample.
    """
    if samples < 1:
        raise UsageError(f"samples is {samples}, expected 1 or more")
    n = len(images)
    whole = Scores(np.zeros(n), np.zeros(n), np.zeros(n))
    for start in range(0, n, CHUNK):
        part = slice(start, min(start + CHUNK, n))
        label = None if labels is None else labels[part]
        found = _score_chunk(
            model, unit_floats(images[part]), label, (samples, seed, first + start)
        )
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
    likelihood = model.card.likelihood, model.card.sigma
    mu, log_var = model.posterior(pixels, label)
    decoded = model.decode(mu, label)
    error = np.square(decoded - pixels, dtype=np.float64).mean(axis=(1, 2, 3))
    if log_var is None:
        nll = latent.negative_log_likelihood(decoded, pixels, *likelihood)
        return Scores(error, np.zeros(len(pixels)), nll)
    nll = np.zeros(len(pixels))
    for z in latent.posterior_draws(mu, log_var, samples, seed, first):
        nll += latent.negative_log_likelihood(model.decode(z, label), pixels, *likelihood) / samples
    kl = latent.kl_to_standard_normal(mu, log_var)
    return Scores(error, kl, nll + kl)
