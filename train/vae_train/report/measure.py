"""Measure a finished run: reconstruction compared with PCA, use of the latents, sample quality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_runtime.arrays import to_float32
from vae_runtime.datasets import Dataset
from vae_runtime.metrics import ACTIVE, sample_posterior

from .trained_model import EncodedImages, TrainedModel

Floats = NDArray[np.floating]

_COMPONENTS = 32  # principal components used to compare images
_MIN_IMAGES = 4 * _COMPONENTS  # needed to estimate the components' covariance
_MAX_SAMPLES = 1_000
_MAX_PCA_COMPONENTS = 512  # the most that can be fitted in seconds
_MAX_ACTIVITY_DECODES = 4_000  # images decoded to find the active dimensions
_MAX_ACTIVITY_PIXELS = 16_000_000
_MIN_ACTIVITY_IMAGES = 4
_MIN_EFFECT = 0.01  # of an active dimension on the pixels, relative to an equal share
_MIN_PER_CLASS = 10  # the linear probe omits classes with fewer images


@dataclass(frozen=True)
class Measurements:
    """Measurements on held-out images, or on training images if none were held out.

    Attributes:
        split: the source of the images: `test`, `validation` or `training`.
        images: the number of images.
        latent_dim: D.
        variance: D numbers; for each dimension, how much its posterior mean varies over the images.
        active: D flags; whether each dimension is active: its posterior mean varies with the image,
            and the decoded image with it.
        kl: D numbers, the KL of each dimension from N(0, 1) in nats, averaged over the images; None
            for an AE.
        mse: mean squared error per pixel of images decoded from the posterior means.
        training_mse: the same for training images.
        mean_mse: mean squared error per pixel of the mean training image, for every image.
        pca_mse: mean squared error per pixel of PCA with D components, fitted to `pca_images`
            training images; None unless D is below 512, `pca_images` and the number of pixels per
            image.
        pca_images: the number of training images that PCA was fitted to.
        probe_accuracy: accuracy of a linear probe that predicts labels from latents; None without
            labels.
        chance_accuracy: accuracy of random guessing among the same classes; None without labels.
        probe_limit: the accuracy above which the latents reveal the label; None without labels.
        training_loss: training loss of the epoch whose weights were kept.
        held_out_loss: loss after the same epoch on all validation images or, if there are none, on
            all test images; None if no images were held out.
        best_held_out_loss: the lowest validation loss of any epoch; None without validation images.
        sample_distance: Fréchet distance between samples and images, computed on the principal
            components of the pixels, relative to the variance of the images; None if there are too
            few images.
        reconstruction_distance: the same distance for reconstructions, which shows the decoder's
            blur.
        training_distance: the same distance for training images, as a second set of real images.
    """

    split: str
    images: int
    latent_dim: int
    variance: list[float]
    active: list[bool]
    kl: list[float] | None
    mse: float
    training_mse: float
    mean_mse: float
    pca_mse: float | None
    pca_images: int
    probe_accuracy: float | None
    chance_accuracy: float | None
    probe_limit: float | None
    training_loss: float
    held_out_loss: float | None
    best_held_out_loss: float | None
    sample_distance: float | None
    reconstruction_distance: float | None
    training_distance: float | None

    @property
    def active_units(self) -> int:
        """The number of active dimensions."""
        return sum(self.active)

    @property
    def total_kl(self) -> float | None:
        """The KL in nats per image, summed over the dimensions; None for an AE."""
        return None if self.kl is None else sum(self.kl)


def measure(trained: TrainedModel) -> Measurements:
    """Take all measurements, using few enough images to finish within seconds."""
    checkpoint, images = trained.checkpoint, trained.held_out.images
    dim, seed = checkpoint.model.latent_dim, checkpoint.train.seed
    encoded = trained.encode(images, trained.labels)
    pixels = flatten(images)
    decoded = flatten(trained.decode(encoded.mu, trained.labels))
    training = trained.training.take(slice(0, _MAX_SAMPLES))
    variance = encoded.mu.astype(np.float64).var(axis=0)
    kl = encoded.kl()
    comparable = dim < min(len(trained.training), _MAX_PCA_COMPONENTS, checkpoint.model.pixels)
    pca = PCA.fit(trained.training.images, max(dim if comparable else 0, _COMPONENTS), seed)
    probe = _probe_latents(trained, encoded)
    metrics = checkpoint.metadata["metrics"]
    validation = [e.validation_loss for e in trained.history if e.validation_loss is not None]
    distances = _distances(trained, pca, decoded)
    return Measurements(
        split=trained.split,
        images=len(images),
        latent_dim=dim,
        variance=variance.tolist(),
        active=_find_active(trained, encoded, variance, float(pixels.var())).tolist(),
        kl=None if kl is None else kl.tolist(),
        mse=float(np.square(decoded - pixels, dtype=np.float64).mean()),
        training_mse=_reconstruction_error(trained, training),
        mean_mse=float(np.square(pixels - pca.mean, dtype=np.float64).mean()),
        pca_mse=pca.error(pixels, dim) if comparable else None,
        pca_images=len(trained.training),
        probe_accuracy=None if probe is None else probe.accuracy,
        chance_accuracy=None if probe is None else 1 / probe.classes,
        probe_limit=None if probe is None else probe_limit(probe.classes),
        training_loss=metrics["loss"],
        held_out_loss=metrics.get("validation_loss", metrics.get("test_loss")),
        best_held_out_loss=min(validation, default=None),
        sample_distance=distances[0],
        reconstruction_distance=distances[1],
        training_distance=distances[2],
    )


def _find_active(
    trained: TrainedModel, encoded: EncodedImages, variance: NDArray[np.float64], contrast: float
) -> NDArray[np.bool_]:
    """Find the active dimensions, bool[D].

    In a VAE, the variance of an active dimension's posterior mean is above .01 (Burda et al. 2015);
    the scale of an AE's latents is arbitrary. In both, the decoder must use the dimension: with its
    mean in place of each image's own value, the pixels change by more than a hundredth of an equal
    share of the variance of the images.

    Args:
        trained: the model.
        encoded: the encoded images.
        variance: f64[D], the variance of each dimension over the images.
        contrast: the variance of the pixels over all images.
    """
    varies = variance > (0 if encoded.log_var is None else ACTIVE)
    dim, pixels = len(variance), trained.checkpoint.model.pixels
    decodes = min(_MAX_ACTIVITY_DECODES, _MAX_ACTIVITY_PIXELS // pixels)
    n = min(len(encoded.mu), decodes // dim)
    if n < _MIN_ACTIVITY_IMAGES:  # too many dimensions to decode each one
        return varies
    mu, mean = encoded.mu[:n], encoded.mu.mean(0)
    labels = None if trained.labels is None else trained.labels[:n]
    whole = trained.decode(mu, labels)
    for k in np.flatnonzero(varies):
        flat = mu.copy()
        flat[:, k] = mean[k]
        change = np.square(trained.decode(flat, labels) - whole, dtype=np.float64).mean()
        varies[k] = change > _MIN_EFFECT / dim * contrast
    return varies


def _reconstruction_error(trained: TrainedModel, data: Dataset) -> float:
    """Compute the mean squared error per pixel of the reconstructions."""
    labels = data.labels if trained.labels is not None else None
    decoded = trained.decode(trained.encode(data.images, labels).mu, labels)
    return float(np.square(flatten(decoded) - flatten(data.images), dtype=np.float64).mean())


def flatten(images: NDArray[Any]) -> NDArray[np.float32]:
    """Flatten images [N, C, H, W], u8 or f32 in [0, 1], to f32[N, C·H·W] in [0, 1]."""
    return to_float32(images).reshape(len(images), -1)


def _distances(
    trained: TrainedModel, pca: PCA, decoded: NDArray[np.float32]
) -> tuple[float, float, float] | tuple[None, None, None]:
    """Compute the distances of samples, reconstructions and training images to held-out images."""
    images = trained.held_out.images
    n = min(len(images), len(trained.training), _MAX_SAMPLES)
    if n < _MIN_IMAGES:
        return None, None, None
    pca = PCA(pca.mean, pca.axes[:_COMPONENTS])
    real = pca.project(flatten(images[:n]))
    variance = float(real.astype(np.float64).var(axis=0).sum())
    if variance < 1e-6:  # all images are equal
        return None, None, None
    # A CVAE samples the same classes as the held-out images.
    labels = None if trained.labels is None else np.resize(trained.labels, n)
    checkpoint = trained.checkpoint
    z = checkpoint.prior.sample(n, labels, seed=checkpoint.train.seed)
    samples = flatten(trained.decode(z, labels))
    sets = samples, decoded[:n], flatten(trained.training.images[:n])
    a, b, c = (frechet(pca.project(pixels), real) / variance for pixels in sets)
    return a, b, c


@dataclass(frozen=True, eq=False)
class PCA:
    """Principal component analysis, the optimal linear autoencoder.

    Attributes:
        mean: f32[P], the mean image.
        axes: f32[K, P], the principal components, largest first.
    """

    mean: Floats
    axes: Floats

    @classmethod
    def fit(cls, images: NDArray[np.uint8], components: int, seed: int) -> PCA:
        """Fit to images u8[N, C, H, W]; if N is below `components`, there are fewer axes."""
        from sklearn import decomposition

        pixels = flatten(images)
        if not pixels.var(axis=0).any():  # all images are equal: there are no components
            return cls(pixels[0], np.zeros((0, pixels.shape[1]), np.float32))
        fitted: Any = decomposition.PCA(min(components, *pixels.shape), random_state=seed % 2**32)
        fitted.fit(pixels)
        return cls(fitted.mean_.astype(np.float32), fitted.components_.astype(np.float32))

    def project(self, pixels: Floats) -> Floats:
        """Project pixels f32[N, P] to coordinates f32[N, K]."""
        coordinates: Floats = (pixels - self.mean) @ self.axes.T
        return coordinates

    def error(self, pixels: Floats, components: int) -> float:
        """Compute the squared error per pixel of projecting f32[N, P] onto `components` axes."""
        centered = pixels - self.mean
        total = np.square(centered, dtype=np.float64).sum()
        kept = np.square(centered @ self.axes[:components].T, dtype=np.float64).sum()
        return float(max(0.0, total - kept) / pixels.size)


def frechet(a: Floats, b: Floats) -> float:
    """Compute the Fréchet distance between Gaussians fitted to two sets f32[N, K].

    Source: Heusel et al. 2017, arXiv 1706.08500. The trace of the square root of Σa·Σb is the sum
    of the square roots of the eigenvalues of Σa·Σb.
    """
    mean = (a.mean(0) - b.mean(0)).astype(np.float64)
    first, second = np.atleast_2d(np.cov(a, rowvar=False)), np.atleast_2d(np.cov(b, rowvar=False))
    roots = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None))
    return float(mean @ mean + np.trace(first) + np.trace(second) - 2 * roots.sum())


class ProbeResult(NamedTuple):
    """The result of a linear probe.

    Attributes:
        accuracy: mean accuracy over classes, 0 to 1.
        classes: the number of classes.
    """

    accuracy: float
    classes: int


def linear_probe(
    latents: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> ProbeResult | None:
    """Predict labels by logistic regression, fitted to half of the latents and scored on the rest.

    The accuracy is averaged over classes, so random guessing scores 1 / classes even if classes
    differ in size.

    Args:
        latents: f32[N, D].
        labels: i64[N].
        seed: seed of the split.

    Returns:
        The result; None if fewer than two classes have at least ten latents.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(labels, return_counts=True)
    common = names[counts >= _MIN_PER_CLASS]
    if len(common) < 2:
        return None
    rows = np.isin(labels, common)
    fit_z, test_z, fit_y, test_y = train_test_split(
        latents[rows], labels[rows], test_size=0.5, stratify=labels[rows], random_state=seed % 2**32
    )
    # A loose tolerance is enough: the accuracy converges long before the weights.
    regression = LogisticRegression(class_weight="balanced", max_iter=300, tol=1e-3)
    predicted = make_pipeline(StandardScaler(), regression).fit(fit_z, fit_y).predict(test_z)
    return ProbeResult(float(balanced_accuracy_score(test_y, predicted)), len(common))


def probe_limit(classes: int) -> float:
    """Return the accuracy above which latents reveal the label, such as 0.3 for ten classes.

    For any number of classes, the limit is two ninths of the way from random guessing (1 / classes)
    to 1.
    """
    return 1 / classes + (1 - 1 / classes) * 2 / 9


def _probe_latents(trained: TrainedModel, encoded: EncodedImages) -> ProbeResult | None:
    labels = trained.held_out.labels
    if labels is None:
        return None
    seed = trained.checkpoint.train.seed
    z = encoded.mu
    if encoded.log_var is not None:
        # Probe samples, which are what the decoder sees: in a collapsed dimension, the means still
        # differ, but by far less than the noise.
        z = sample_posterior(encoded.mu, encoded.log_var, seed, 0)
    return linear_probe(z, labels, seed)
