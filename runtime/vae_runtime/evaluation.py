"""How good a model is on a data set: squared error, ELBO, IWAE bound, active units. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import latent
from .arrays import unit_floats
from .chunks import CHUNK
from .errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
        negative_elbo: -ELBO, the expectation over `draws` codes.
        iwae: the importance-weighted bound on -log p(x) (Burda et al. 2015, arXiv 1509.00519).
        draws: K, codes drawn for each image.
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
        seed: of the pixels and the codes.
        watch: passes the first index of each chunk through, to show progress.

    Raises:
        UsageError: no images, no draws, or a binarisation that does not fit.
    """
    kind = model.card.likelihood
    binarise = binarise or ("sample" if kind == "bernoulli" else "none")
    if binarise not in BINARISE or (kind == "gaussian" and binarise != "none"):
        allowed = BINARISE if kind == "bernoulli" else ("none",)
        raise UsageError(f"binarise is {binarise!r}, expected {' or '.join(allowed)} for {kind}")
    if draws < 1 or not len(images):
        raise UsageError(f"{len(images)} images and {draws} draws, expected at least one of each")
    n = len(images)
    totals = np.zeros(4)
    moments = np.zeros((2, model.card.latent_dim))
    for first in watch(range(0, n, CHUNK)):
        part = slice(first, min(first + CHUNK, n))
        label = None if labels is None else labels[part]
        grey = unit_floats(images[part])
        chunk = _Chunk(model, grey, label, (first, n, draws, seed))
        totals[0] += chunk.squared_error()
        moments += chunk.moments()
        if model.card.family != "ae":
            x = _binarised(grey, binarise, seed, first)
            totals[1:] += chunk.bounds(x, None if binarise == "none" else 1 - x)
    mse, kl, elbo, iwae = (float(t) for t in totals / n)
    variance = moments[1] / n - (moments[0] / n) ** 2
    plain = model.card.family == "ae"
    return Evaluation(
        n, labels is not None, mse,
        None if plain else kl, None if plain else elbo, None if plain else iwae,
        draws, binarise, kind,
        None if plain else int((variance > ACTIVE).sum()), model.card.latent_dim,
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
        """Sums of the mean codes and of their squares, f64[2, D]."""
        mu = self.model.encode(self.grey, self.label).astype(np.float64)
        return np.stack([mu.sum(axis=0), (mu**2).sum(axis=0)])

    def bounds(
        self, x: NDArray[np.float32], zeros: NDArray[np.float32] | None
    ) -> NDArray[np.float64]:
        """Sums over the chunk of KL, -ELBO and -IWAE, f64[3]; `zeros` is 1 - x, if binarised."""
        mu, log_var = self.model.posterior(x, self.label)
        assert log_var is not None
        kl = latent.kl_to_standard_normal(mu, log_var)
        nll, weight = np.zeros(len(x)), np.full(len(x), -np.inf)
        for z in self._draws(mu, log_var):
            decoded = self.model.decode(z, self.label)
            card = self.model.card
            one = latent.negative_log_likelihood(decoded, x, card.likelihood, card.sigma, zeros)
            nll += one / self.place[2]
            weight = np.logaddexp(weight, -one + latent.log_prior_ratio(z, mu, log_var))
        iwae = np.log(self.place[2]) - weight
        return np.array([kl.sum(), (nll + kl).sum(), iwae.sum()])

    def _draws(
        self, mu: NDArray[np.float32], log_var: NDArray[np.float32]
    ) -> Iterator[NDArray[np.float32]]:
        first, n, draws, seed = self.place
        for k in range(draws):
            yield latent.posterior_draw(mu, log_var, seed, k * n + first)


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
