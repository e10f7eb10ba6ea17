"""What is normal for a model: the latents of normal images, and how they are reconstructed.

An autoencoder reconstructs what it was trained on better than anything else, so the error of a
reconstruction is a score of anomaly. But images that are hard to reconstruct, such as heavy
strokes, have large errors although they are normal; a small defect hardly changes the error of a
whole image; and a good decoder also draws what it has never seen, from latents that no normal image
has. The score has a part for each:

- the excess: the squared error minus the error that is expected of such an image, given the level
  of each pixel in its reconstruction;
- the peak: the logarithm of the highest value of the map, in which each pixel is its squared error
  over the expected one, smoothed;
- the distance: the Mahalanobis distance of the latents from those of normal images (Mahalanobis
  1936; on features of networks, Lee et al. 2018, arXiv 1807.03888).

Each part is taken minus its median and in units of the distance from there to its 99% quantile, of
normal images that the model was not trained on: at 1, one in a hundred of them is higher, whether
its tail is long or short. Excess and distance, which concern the whole image, are added and divided
by √2. The score is the larger of this and the peak, which concerns a part of the image.

Scores become decisions by the scores of normal images that the model was not trained on, without
assuming any distribution (conformal anomaly detection: Laxhammar & Falkman 2010; Bates et al. 2021,
arXiv 2104.08279): of N such images and a new one, each is equally likely to rank highest.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from ..arrays import check_number, to_float32
from ..errors import InputError, UsageError
from ..files.npz import read_npz
from ..inference.batching import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ..metrics import Codec

Floats: TypeAlias = "NDArray[np.float32]"
Doubles: TypeAlias = "NDArray[np.float64]"

LEVELS = 16  # of a reconstructed pixel, each with an expected error
MAX_SCORES = 2000  # of held-out images that are kept
MIN_HELD_OUT = 20
MAX_FIT = 5000  # images that expected errors are measured on
MAX_DIRECTIONS = 32  # of the latents, the ones with the largest variance
_MAX_WHITENED = 1 << 22  # numbers that principal directions are computed from
_SMOOTHING = 1 / 30  # standard deviation of the blur, relative to the longer side
_FLOOR = 1e-6  # of an expected error, against division by zero


@dataclass(frozen=True, eq=False, repr=False)
class Normality:
    """What latents and errors normal images have.

    Attributes:
        center: f64[D], the mean of the latents.
        whitening: f64[D, K], K ≤ `MAX_DIRECTIONS`; latents minus `center` times it have a mean of 0
            and the covariance 1.
        expected: f64[LEVELS], the mean squared error of a pixel whose reconstruction has the level
            k / LEVELS to (k + 1) / LEVELS.
        parts: f64[3, 2], the median of each part of the score, and the distance from there to its
            99% quantile, of the held-out images.
        scores: f64[Q], the scores of the held-out images in ascending order; of more than
            `MAX_SCORES`, as many quantiles.
        held_out: N, the number of held-out images.
    """

    center: Doubles
    whitening: Doubles
    expected: Doubles
    parts: Doubles
    scores: Doubles
    held_out: int

    def __repr__(self) -> str:
        return f"<Normality of {self.held_out:,} held-out images>"

    def score(self, encoded: Encoded) -> Doubles:
        """Return the scores f64[N] of images: about 0 for normal ones."""
        return self._combine(self._measure(encoded)[0])

    def _combine(self, values: Doubles) -> Doubles:
        excess, peak, distance = (values - self.parts[:, :1]) / self.parts[:, 1:]
        return np.asarray(np.maximum((excess + distance) / np.sqrt(2), peak))

    def _measure(self, encoded: Encoded) -> tuple[Doubles, Floats]:
        """Return excess, peak and distance before they are scaled, f64[3, N], and the maps."""
        images, latents, reconstructions = encoded
        if latents.shape[1] != len(self.center):
            raise InputError(
                f"normality: of {len(self.center)} latent dimensions, this model has "
                f"{latents.shape[1]}. Learn it with this model."
            )
        error = np.square(reconstructions - images, dtype=np.float64)
        excess = (error - self._expected_of(reconstructions)).sum(axis=(1, 2, 3))
        maps = self.maps(images, reconstructions)
        peak = maps.max(axis=(1, 2))
        distance = np.linalg.norm((latents - self.center) @ self.whitening, axis=1)
        return np.stack([excess, np.log(peak + _FLOOR), distance]), maps

    def _expected_of(self, reconstructions: Floats) -> Doubles:
        level = (reconstructions * LEVELS).astype(np.int64).clip(0, LEVELS - 1)
        return np.asarray(self.expected[level], np.float64)

    def rarity(self, scores: Doubles) -> Doubles:
        """Return, for each score, the fraction of normal images that have a lower one, f64[N]."""
        below = np.searchsorted(self.scores, scores, side="left") / len(self.scores)
        return np.asarray(below, np.float64)

    @property
    def fewest_false_alarms(self) -> float:
        """The lowest rate of false alarms that the held-out images can tell from 0."""
        return 1 / (self.held_out + 1)

    def threshold(self, false_alarms: float) -> float:
        """Return the score above which at most this fraction of new normal images is expected.

        With N held-out images, it is the one of rank ⌈(N + 1)(1 - false_alarms)⌉; the guarantee is
        over the draw of both (Vovk et al. 2005, chapter 2).

        Raises:
            UsageError: `false_alarms` is not between 0 and 1, or below 1 / (N + 1), which N images
                cannot tell from 0.
        """
        check_number("false_alarms", false_alarms)
        if not 0 < false_alarms < 1:
            raise UsageError(f"false_alarms is {false_alarms:g}, expected between 0 and 1")
        n = self.held_out
        rank = int(np.ceil((n + 1) * (1 - false_alarms) - 1e-9))
        if rank > n:
            raise UsageError(
                f"false_alarms is {false_alarms:g}, expected {self.fewest_false_alarms:.2g} or "
                f"more: only {n} held-out normal images are known. Allow more, or pass more images."
            )
        position = (rank - 1) / max(n - 1, 1) * (len(self.scores) - 1)
        return float(self.scores[int(np.ceil(position - 1e-9))])

    def maps(self, images: Floats, reconstructions: Floats) -> Floats:
        """Return where images differ from what is normal, f32[N, H, W].

        Each pixel is its squared error over the expected one, both averaged over channels and
        smoothed over a thirtieth of the image: 1 is as expected.

        Args:
            images: f32[N, C, H, W] in [0, 1].
            reconstructions: of the images.
        """
        width = max(images.shape[2:]) * _SMOOTHING
        squared = np.square(reconstructions - images).mean(axis=1)
        expected = self._expected_of(reconstructions).mean(axis=1).astype(np.float32)
        ratio = smooth(squared, width) / (smooth(expected, width) + np.float32(_FLOOR))
        return np.asarray(ratio, np.float32)

    def recalibrated(self, images: NDArray[Any], codec: Codec) -> Normality:
        """Return a copy whose held-out images are these: u8 or f32 [N, C, H, W].

        Raises:
            InputError: fewer than `MIN_HELD_OUT` images.
        """
        if len(images) < MIN_HELD_OUT:
            raise InputError(
                f"{len(images)} held-out normal images, expected {MIN_HELD_OUT} or more"
            )
        values = np.concatenate([self._measure(one)[0] for one in _encode(images, codec)], axis=1)
        middle, high = np.quantile(values, [0.5, 0.99], axis=1)
        parts = np.stack([middle, high - middle + _FLOOR], axis=1)
        scaled = replace(self, parts=parts, held_out=len(images))
        scores = np.sort(scaled._combine(values))
        if len(scores) > MAX_SCORES:
            scores = np.quantile(scores, np.linspace(0, 1, MAX_SCORES), method="higher")
        return replace(scaled, scores=scores)

    def to_bytes(self) -> bytes:
        """Return the content of a bundle's `normality.npz`."""
        file = io.BytesIO()
        held_out = np.int64(self.held_out)
        np.savez(
            file, center=self.center, whitening=self.whitening, expected=self.expected,
            parts=self.parts, scores=self.scores, held_out=held_out,
        )  # fmt: skip
        return file.getvalue()

    @classmethod
    def from_bytes(cls, raw: bytes, where: str, latent_dim: int | None = None) -> Normality:
        """Read and check the output of `to_bytes`, of a model with so many latent dimensions.

        Raises:
            InputError: an array is missing, or has the wrong dtype, shape or values.
        """
        arrays = read_npz(raw, where, max_bytes=1 << 24)
        try:
            held_out = int(arrays["held_out"].item())
            names = ("center", "whitening", "expected", "parts", "scores")
            found = cls(**{name: arrays[name] for name in names}, held_out=held_out)
        except (KeyError, ValueError) as error:
            raise InputError(f"{where}: not what vae-export wrote: {error}") from error
        found._check(where, latent_dim)
        return found

    def _check(self, where: str, latent_dim: int | None) -> None:
        numbers = (self.center, self.whitening, self.expected, self.parts, self.scores)
        fits = (
            all(a.dtype == np.float64 and np.isfinite(a).all() for a in numbers)
            and self.center.ndim == 1
            and len(self.center) == (latent_dim or len(self.center))
            and self.whitening.ndim == 2
            and len(self.whitening) == len(self.center)
            and self.whitening.shape[1] <= MAX_DIRECTIONS
            and self.expected.shape == (LEVELS,)
            and bool((self.expected >= 0).all())
            and self.parts.shape == (3, 2)
            and bool((self.parts[:, 1] > 0).all())
            and self.scores.ndim == 1
            and 1 <= len(self.scores) <= min(MAX_SCORES, self.held_out)
            and bool((np.diff(self.scores) >= 0).all())
        )
        if not fits:
            raise InputError(f"{where}: an array has the wrong dtype, shape or values")


class Detection(NamedTuple):
    """What was found in N images.

    Attributes:
        scores: f64[N]; about 0 for normal images, higher for others.
        rarity: f64[N], the fraction of held-out normal images with a lower score.
        anomalous: bool[N], whether the score is above the threshold.
        threshold: the score that the rate of false alarms gives.
        false_alarms: this rate.
        maps: f32[N, H, W], the error of each pixel over the expected one; 1 is as expected.
    """

    scores: Doubles
    rarity: Doubles
    anomalous: NDArray[np.bool_]
    threshold: float
    false_alarms: float
    maps: Floats

    def __repr__(self) -> str:
        n, found = len(self.scores), int(self.anomalous.sum())
        return f"<Detection: {found} of {n} images above {self.threshold:.3g}>"


class Encoded(NamedTuple):
    """A batch of images with their latents and reconstructions.

    Attributes:
        images, reconstructions: f32[N, C, H, W] in [0, 1].
        latents: f32[N, D].
    """

    images: Floats
    latents: Floats
    reconstructions: Floats


def detect(
    images: NDArray[Any], codec: Codec, normality: Normality, false_alarms: float | None = None
) -> Detection:
    """Score images u8 or f32 [N, C, H, W], batch by batch; see `Autoencoder.detect`."""
    rate = max(0.01, normality.fewest_false_alarms) if false_alarms is None else false_alarms
    threshold = normality.threshold(rate)
    scores, maps = [np.zeros(0)], [np.zeros((0, *images.shape[2:]), np.float32)]
    for one in _encode(images, codec):
        values, map_ = normality._measure(one)
        scores.append(normality._combine(values))
        maps.append(map_)
    whole = np.concatenate(scores)
    rarity, everywhere = normality.rarity(whole), np.concatenate(maps)
    return Detection(whole, rarity, whole > threshold, threshold, rate, everywhere)


def fit_normality(images: NDArray[Any], held_out: NDArray[Any], codec: Codec) -> Normality:
    """Measure latents and errors of normal images.

    Args:
        images: normal images, such as the training images, u8 or f32 [N, C, H, W]; at most 5,000
            are used.
        held_out: normal images that the model was not trained on.
        codec: the model. Labels are not used.

    Raises:
        InputError: fewer than `MIN_HELD_OUT` held-out images.
    """
    images = images[:: -(-len(images) // MAX_FIT)]
    total, count, latents = np.zeros(LEVELS), np.zeros(LEVELS), []
    for x, z, y in _encode(images, codec):
        level = (y * LEVELS).astype(np.int64).clip(0, LEVELS - 1).ravel()
        total += np.bincount(level, np.square(y - x, dtype=np.float64).ravel(), LEVELS)
        count += np.bincount(level, minlength=LEVELS)
        latents.append(z)
    mean = total.sum() / count.sum()
    expected = np.where(count > 0, total / count.clip(1), mean)
    center, whitening = _whiten(np.concatenate(latents).astype(np.float64))
    parts = np.array([[0.0, 1]] * 3)
    unscaled = Normality(center, whitening, expected, parts, np.zeros(1), 1)
    return unscaled.recalibrated(held_out, codec)


def split_normality(images: NDArray[Any], codec: Codec) -> Normality:
    """Measure normal images as `fit_normality` does, with every second one held out.

    Raises:
        InputError: fewer than twice `MIN_HELD_OUT` images.
    """
    if len(images) < 2 * MIN_HELD_OUT:
        raise InputError(
            f"{len(images)} normal images, expected {2 * MIN_HELD_OUT} or more: every second one "
            "is held out"
        )
    return fit_normality(images[::2], images[1::2], codec)


def _whiten(latents: Doubles) -> tuple[Doubles, Doubles]:
    """Return the mean f64[D] of latents f64[N, D], and directions f64[D, K] of unit variance.

    Few latents underestimate the smallest variances, so a part of the mean variance that falls with
    N is added to each.
    """
    center = latents.mean(axis=0)
    latents = latents[:: -(-latents.size // _MAX_WHITENED)]
    n, d = latents.shape
    # The right singular vectors are the principal directions, also of 4,096 dimensions.
    _, values, directions = np.linalg.svd(latents - center, full_matrices=False)
    variances = values**2 / n
    share = d / (n + d)
    shrunk = (1 - share) * variances + share * variances.sum() / d
    kept = slice(min(MAX_DIRECTIONS, len(shrunk)))
    return center, np.ascontiguousarray(directions[kept].T / np.sqrt(shrunk[kept] + _FLOOR))


def _encode(images: NDArray[Any], codec: Codec) -> Iterator[Encoded]:
    """Yield batches of images f32[n, C, H, W] with their latents and reconstructions."""
    for first in range(0, len(images), BATCH_SIZE):
        x = to_float32(images[first : first + BATCH_SIZE])
        z, _ = codec.encode(x, None)
        yield Encoded(x, z, codec.decode(z, None))


def smooth(images: NDArray[Any], width: float) -> NDArray[Any]:
    """Blur images [N, H, W], f32 or f64, with a Gaussian of this standard deviation, in pixels.

    Beyond the border, the image is continued by its outermost pixels.
    """
    radius = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / width) ** 2)
    kernel = (kernel / kernel.sum()).astype(images.dtype)
    for axis in (1, 2):
        pad = [(0, 0)] * 3
        pad[axis] = (radius, radius)
        padded = np.pad(images, pad, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=axis)
        images = windows @ kernel
    return images
