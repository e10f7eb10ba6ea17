"""The figures of a run, as plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figures:
    """What was measured of a finished run, on images that it was not trained on.

    Attributes:
        part: where those images are from: `test`, `validation` or `training`.
        images: how many were looked at.
        latent_dim: D.
        variance: of each dimension's mean code over those images; D numbers.
        active_units: how many of those are over the threshold.
        kl: of each dimension to N(0, 1), nats, mean over the images; None for an AE.
        mse: squared error a pixel of the reconstruction from the mean code.
        pca_mse: the same of PCA with D components, fitted to `pca_images` training images; None
            where D is over 512, over the number of those images, or not below that of the pixels.
        pca_images: see above.
        probe: accuracy of a linear probe from latents to labels; None without labels.
        guessing: what guessing among the classes that were probed has; None likewise.
        probe_limit: from where on labels count as readable.
        training_loss: of the epoch whose weights were kept.
        held_out_loss: after that epoch, of all validation images, else of all test images; None
            where nothing was held out.
        best_held_out_loss: the lowest validation loss of any epoch; None without.
        samples_distance: Fréchet distance between samples and data, on principal components of the
            pixels, as a share of the data's variance there; None with too few images.
        reconstructions_distance: the same of reconstructions: how much of it is the decoder's blur.
        floor_distance: the same of training images: what two sets of real images differ by.
    """

    part: str
    images: int
    latent_dim: int
    variance: list[float]
    active_units: int
    kl: list[float] | None
    mse: float
    pca_mse: float | None
    pca_images: int
    probe: float | None
    guessing: float | None
    probe_limit: float | None
    training_loss: float
    held_out_loss: float | None
    best_held_out_loss: float | None
    samples_distance: float | None
    reconstructions_distance: float | None
    floor_distance: float | None

    @property
    def total_kl(self) -> float | None:
        """Nats an image."""
        return None if self.kl is None else sum(self.kl)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
