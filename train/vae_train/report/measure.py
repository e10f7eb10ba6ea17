"""Take the figures of a finished run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_runtime.metrics import ACTIVE, sample_posterior

from .figures import Figures
from .network import Codes, Network
from .pca import PCA, flat, frechet
from .probe import Probed, probe, readable
from .subject import Subject

_AXES = 32  # principal components that images are compared on
_FEWEST = 4 * _AXES  # images, for a covariance of them
_SAMPLES = 1_000
_MAX_COMPONENTS = 512  # of a PCA that is fitted in seconds
# An AE's latents have no scale of their own: a unit is dead if it moves 10,000 times less, in
# variance, than the liveliest.
_DEAD = 1e-4


def measure(subject: Subject, network: Network) -> Figures:
    """All figures, within seconds: of a bounded number of images."""
    model, data = subject.checkpoint.model, subject.held_out
    latents = network.encode(data.images, subject.labels)
    again = network.decode(latents.mu, subject.labels)
    rows, rebuilt = flat(data.images), flat(again)
    variance = latents.mu.astype(np.float64).var(axis=0)
    kl = latents.kl()
    linear = model.latent_dim < min(len(subject.training), _MAX_COMPONENTS, model.pixels)
    axes = max(model.latent_dim if linear else 0, _AXES)
    pca = PCA.fit(subject.training.images, axes, subject.checkpoint.train.seed)
    told = _probe(subject, latents)
    metrics = subject.checkpoint.facts["metrics"]  # of the epoch whose weights were kept
    held = [e.validation_loss for e in subject.history if e.validation_loss is not None]
    samples, blur, floor = _distances(subject, network, pca, rebuilt)
    return Figures(
        part=subject.part,
        images=len(data),
        latent_dim=model.latent_dim,
        variance=variance.tolist(),
        active_units=int(active(variance, model.family).sum()),
        kl=None if kl is None else kl.tolist(),
        mse=float(np.square(rebuilt - rows, dtype=np.float64).mean()),
        pca_mse=pca.error(rows, model.latent_dim) if linear else None,
        pca_images=len(subject.training),
        probe=None if told is None else told.accuracy,
        guessing=None if told is None else 1 / told.classes,
        probe_limit=None if told is None else readable(told.classes),
        training_loss=metrics["loss"],
        held_out_loss=metrics.get("validation_loss", metrics.get("test_loss")),
        best_held_out_loss=min(held, default=None),
        samples_distance=samples,
        reconstructions_distance=blur,
        floor_distance=floor,
    )


def active(variance: NDArray[np.float64], family: str) -> NDArray[np.bool_]:
    """Which dimensions vary with the image, bool[D]; Burda et al. 2015, section 5.2."""
    threshold = _DEAD * float(variance.max()) if family == "ae" else ACTIVE
    found: NDArray[np.bool_] = variance > threshold
    return found


def draw(subject: Subject, network: Network, n: int) -> NDArray[np.float32]:
    """Samples f32[n, C, H, W]; of a CVAE, of the classes that the held-out images have."""
    labels = None if subject.labels is None else np.resize(subject.labels, n)
    checkpoint = subject.checkpoint
    return network.decode(checkpoint.prior.sample(n, labels, seed=checkpoint.train.seed), labels)


def _probe(subject: Subject, latents: Codes) -> Probed | None:
    labels = subject.held_out.labels
    if labels is None:
        return None
    seed = subject.checkpoint.train.seed
    # Draws, as the decoder sees them: the means of a collapsed code differ, far below its noise.
    z = (
        latents.mu
        if latents.log_var is None
        else sample_posterior(latents.mu, latents.log_var, seed, 0)
    )
    return probe(z, labels, seed)


def _distances(
    subject: Subject, network: Network, pca: PCA, rebuilt: NDArray[np.float32]
) -> tuple[float | None, float | None, float | None]:
    """Of samples, reconstructions and training images from the held-out images."""
    images = subject.held_out.images
    n = min(len(images), len(subject.training), _SAMPLES)
    if n < _FEWEST:
        return None, None, None
    pca = PCA(pca.mean, pca.axes[:_AXES])
    real = pca.project(flat(images[:n]))
    variance = float(real.astype(np.float64).var(axis=0).sum())
    if variance < 1e-6:  # all images alike
        return None, None, None
    sets = draw(subject, network, n), rebuilt[:n], subject.training.images[:n]
    samples, blur, floor = (frechet(pca.project(flat(s)), real) / variance for s in sets)
    return samples, blur, floor
