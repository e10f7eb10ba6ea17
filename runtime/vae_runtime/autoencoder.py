"""`Autoencoder`: a bundle as one object that samples, encodes, decodes, scores and more."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .arrays import as_latents, check_images
from .bundle.manifest import Manifest
from .bundle.reader import Bundle
from .bundle.spec import ModelSpec
from .errors import InputError, UsageError
from .graph_set import DEFAULT_VARIANT, GraphSet
from .graphs import Decoder, Encoder, RunOptions, check_dtype
from .images import to_uint8
from .inference.batching import BATCH_SIZE
from .labels import Labels, as_labels, check_labels
from .latents import blend, interpolation, traversal
from .metrics import Codec, Evaluation, Scores, evaluate, score
from .prior import choose_prior
from .rng import Start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from .detection import Detection, Normality


class Autoencoder:
    """An open bundle whose graphs can be run; threads may share it.

    Images are float32 in [0, 1] or uint8, as H×W, N×H×W, C×H×W, H×W×C, N×C×H×W or N×H×W×C. A label
    is one class index or name for all images, or one per image. Graphs are loaded on first use.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int = 1,
        variant: str = DEFAULT_VARIANT,
        tf32: bool = False,
    ) -> None:
        """Wrap an open bundle; `load` opens one and takes the same options."""
        self._graphs = GraphSet(bundle, variant, RunOptions(device, threads, tf32))
        self._bundle = bundle

    def __repr__(self) -> str:
        state = " (closed)" if self._graphs.closed else ""
        return f"<Autoencoder {self._bundle.name!r}: {self.spec.summary}{state}>"

    def _repr_html_(self) -> str:
        """Show ten samples and the main facts in a notebook."""
        from .html import model_html

        images = None if self._graphs.closed else self.sample(10, self._ten_labels(), seed=0)
        return model_html(self._bundle.name, self.spec, images)

    def _ten_labels(self) -> list[int] | None:
        classes = len(self.spec.classes)
        return [i % classes for i in range(10)] if classes else None

    def __reduce__(self) -> tuple[Any, ...]:
        graphs = self._graphs
        return _restore, (self._bundle, {**asdict(graphs.options), "variant": graphs.variant})

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest: spec, graphs, training record and parity figures."""
        return self._bundle.manifest

    @property
    def spec(self) -> ModelSpec:
        """The family, image shape, number of latent dimensions, classes and prior."""
        return self._bundle.manifest.spec

    @property
    def device(self) -> str:
        """The device in use, such as `cpu` or `cuda:0`. Loads a graph if none is loaded yet."""
        return self._graphs.device

    def sample(
        self,
        n: int = 1,
        label: Labels = None,
        seed: int | None = None,
        *,
        prior: str = "fitted",
        temperature: float = 1.0,
        truncation: float | None = None,
        dtype: str = "float32",
    ) -> NDArray[Any]:
        """Sample images.

        Args:
            n: number of images.
            label: for a CVAE, one class for all images, or one per image; None for no label.
            seed: the same seed gives the same images, bit for bit; None picks a random one.
            prior: `fitted` (stored in the bundle) or `normal` (N(0, I)).
            temperature: factor for the spread of the latents; 0 gives the most typical images.
            truncation: bound in standard deviations; noise outside ± this bound is redrawn.
            dtype: `float32` in [0, 1] or `uint8`.

        Returns:
            [n, C, H, W].
        """
        return self.decoder(conditional=label is not None, dtype=dtype).sample(
            n, label, seed, prior=prior, temperature=temperature, truncation=truncation, dtype=dtype
        )

    def stream(
        self,
        n: int | None = None,
        label: Labels = None,
        seed: int | None = None,
        *,
        start: int = 0,
        batch_size: int = BATCH_SIZE,
        prior: str = "fitted",
        temperature: float = 1.0,
        truncation: float | None = None,
        dtype: str = "float32",
    ) -> Iterator[NDArray[Any]]:
        """Sample images batch by batch, in constant memory.

        `np.concatenate(list(stream(n, label, seed)))` equals `sample(n, label, seed)`, bit for bit.

        Args:
            n: number of images; None makes an endless stream.
            label: as for `sample`, but an endless stream takes only one class for all images.
            seed: as for `sample`.
            start: index of the first image in the endless sequence of this seed.
            batch_size: images per array.
            prior: as for `sample`.
            temperature: as for `sample`.
            truncation: as for `sample`.
            dtype: as for `sample`.

        Yields:
            Images [batch_size, C, H, W]; the last batch may be shorter.
        """
        return self.decoder(conditional=label is not None, dtype=dtype).stream(
            n, label, seed, start=start, batch_size=batch_size, prior=prior,
            temperature=temperature, truncation=truncation, dtype=dtype,
        )  # fmt: skip

    def sample_latents(
        self,
        n: int = 1,
        label: Labels = None,
        seed: int | None = None,
        *,
        start: Start = 0,
        prior: str = "fitted",
        temperature: float = 1.0,
        truncation: float | None = None,
    ) -> NDArray[np.float32]:
        """Sample the latents f32[n, *latent_shape] that `sample` would decode."""
        labels, chosen = check_labels(label, n, self.spec), choose_prior(self.spec.prior, prior)
        z = chosen.sample(
            n, labels, seed, start=start, temperature=temperature, truncation=truncation
        )
        return z.reshape(n, *self.spec.latent_shape)

    def encode(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """Encode images to latents f32[N, *latent_shape]; for a VAE, the posterior means."""
        return self.encoder()(images, label)

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return mean and log variance of q(z | image), as `Encoder.posterior` does."""
        return self.encoder().posterior(images, label)

    def decode(self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32") -> NDArray[Any]:
        """Decode latents f32[N, *latent_shape] or f32[*latent_shape] to images [N, C, H, W]."""
        return self.decoder(conditional=label is not None, dtype=dtype)(z, label, dtype=dtype)

    def reconstruct(
        self, images: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Encode images and decode their posterior means to images [N, C, H, W]."""
        return self.decode(self.encode(images, label), label, dtype=dtype)

    def traverse(
        self,
        dim: int,
        steps: int = 11,
        label: int | str | None = None,
        seed: int | None = 0,
        *,
        image: ArrayLike | None = None,
        span: float = 3.0,
        dtype: str = "float32",
    ) -> NDArray[Any]:
        """Vary one latent dimension, or principal direction, and keep the others fixed.

        Args:
            dim: the dimension to vary, 0 to D - 1; for a low-rank prior, the direction, 0 to K - 1.
            steps: number of frames.
            label: the class, for a CVAE.
            seed: seed for sampling the starting point.
            image: start from the encoding of this image instead.
            span: how far to go from the mean to either side, in standard deviations of `dim`.
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        index = check_labels(label, 1, self.spec)
        if image is None:
            start = self.sample_latents(1, label, seed).reshape(-1)
        else:
            start = self._encode_one(image, label)
        row = index if isinstance(index, int) else None
        path = traversal(self.spec.prior, start, dim, steps, span, row)
        return self.decode(path, label, dtype=dtype)

    def interpolate(
        self,
        a: ArrayLike,
        b: ArrayLike,
        steps: int = 9,
        label: int | str | tuple[int | str, int | str] | None = None,
        *,
        how: str = "linear",
        dtype: str = "float32",
    ) -> NDArray[Any]:
        """Interpolate in latent space between two images or two latents f32[*latent_shape].

        Args:
            a: the first image or latents.
            b: the last image or latents.
            steps: number of frames, including both ends.
            label: for a CVAE, the class, or the classes of both ends: `(1, 8)` morphs from a 1 to
                an 8 by blending the images that each class gives along the path.
            how: `linear`, or `spherical` along the great circle (White 2016, arXiv 1609.04468).
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        ends = label if isinstance(label, tuple | list) else (label, label)
        if len(ends) != 2:
            raise UsageError(f"label has {len(ends)} classes, expected one, or one per end")
        first, last = ends
        path = interpolation(self._latents_of(a, first), self._latents_of(b, last), steps, how)
        if check_labels(first, 1, self.spec) == check_labels(last, 1, self.spec):
            return self.decode(path, first, dtype=dtype)
        check_dtype(dtype)
        frames = blend(self.decode(path, first), self.decode(path, last))
        return to_uint8(frames) if dtype == "uint8" else frames

    def score(
        self,
        images: ArrayLike,
        label: Labels = None,
        *,
        samples: int = 1,
        seed: int = 0,
        start: Start = 0,
    ) -> Scores:
        """Compute the reconstruction error, KL and negative ELBO of each image.

        Args:
            images: the images to score.
            label: for a CVAE, one class for all images, or one per image; None for no label.
            samples: posterior samples per image for the negative ELBO.
            seed: seed for the posterior samples.
            start: the first image's index in its data set, or i64[N], the index of each image;
                it determines the posterior samples.
        """
        pixels = check_images(images, self.spec.image)
        return score(self._codec, pixels, self._labels(label, len(pixels)), samples, seed, start)

    @cached_property
    def normality(self) -> Normality | None:
        """What is normal for this model; None if the bundle does not say."""
        from .detection import Normality

        if (spec := self.manifest.normality) is None:
            return None
        raw, where = self._bundle.read(spec), f"{self._bundle.name}/{spec.file}"
        return Normality.from_bytes(raw, where, self.spec.latent_dim)

    def learn_normality(self, images: ArrayLike) -> Normality:
        """Learn what is normal from normal images that the model was not trained on.

        If the bundle says what is normal, 20 or more replace its held-out images. Otherwise, every
        second one is held out, and 40 are needed.

        Raises:
            InputError: there are too few images, or they have the wrong shape.
        """
        from .detection import split_normality

        pixels, known = check_images(images, self.spec.image), self.normality
        if known is not None:
            return known.recalibrated(pixels, self._codec)
        return split_normality(pixels, self._codec)

    def detect(
        self,
        images: ArrayLike,
        *,
        normality: Normality | None = None,
        false_alarms: float | None = None,
    ) -> Detection:
        """Find the images that are unlike normal ones, and where they are.

        Args:
            images: the images to judge. Labels are not used.
            normality: what is normal, from `learn_normality`; by default, what the bundle says.
            false_alarms: the accepted rate of them; by default 1%, or 1 / (held out + 1) if more.

        Raises:
            InputError: wrong images or `normality`, or the bundle does not say what is normal.
            UsageError: too few held-out images for this rate.
        """
        from .detection import detect

        if (known := normality or self.normality) is None:
            raise InputError(
                f"{self._bundle.name}: does not say what is normal. Learn it from normal images: "
                "model.learn_normality(images), or vae-run detect --normal DIR."
            )
        return detect(check_images(images, self.spec.image), self._codec, known, false_alarms)

    def evaluate(
        self,
        images: ArrayLike,
        label: Labels = None,
        *,
        samples: int = 16,
        binarise: str | None = None,
        seed: int = 0,
        track: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> Evaluation:
        """Measure squared error, ELBO, IWAE bound and active units on a data set.

        See `vae_runtime.metrics.evaluate` for the arguments.
        """
        pixels = check_images(images, self.spec.image)
        return evaluate(
            self._codec, pixels, self._labels(label, len(pixels)),
            samples=samples, binarise=binarise, seed=seed, track=track,
        )  # fmt: skip

    def encoder(self) -> Encoder:
        """Return the encoder."""
        return self._graphs.encoder()

    def decoder(self, *, conditional: bool = False, dtype: str = "float32") -> Decoder:
        """Return the decoder; with `conditional`, the one that takes a label.

        `uint8` uses the bundle's uint8 variant if it has one, to avoid a second pass over pixels.

        Raises:
            UsageError: the model has no classes to condition on, or the dtype is unknown.
        """
        return self._graphs.decoder(conditional=conditional, dtype=dtype)

    def preload(self) -> None:
        """Load every graph now, so that the first call of a method is as fast as the others.

        Raises:
            IntegrityError: a file is damaged.
        """
        self._graphs.load_all()

    def close(self) -> None:
        """Release the graphs; the model cannot be used afterwards."""
        self._graphs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _codec(self) -> Codec:
        return Codec(self.posterior, self.decode, self.spec.likelihood, self.spec.sigma)

    def _labels(self, label: Labels, n: int) -> NDArray[np.int64] | None:
        return None if label is None else as_labels(label, n, self.spec)

    def _latents_of(self, item: ArrayLike, label: Labels) -> NDArray[np.float32]:
        """Return latents f32[*latent_shape], or those of an image, as f32[D]."""
        array = np.asarray(item)
        if array.shape != self.spec.latent_shape:
            return self._encode_one(array, label)
        return as_latents(item, self.spec.latent_shape).reshape(-1)

    def _encode_one(self, image: ArrayLike, label: Labels) -> NDArray[np.float32]:
        latents = self.encode(image, label)
        if len(latents) != 1:
            raise InputError(f"image: {len(latents)} images, expected one")
        return latents.reshape(-1)


def _restore(bundle: Bundle, options: dict[str, Any]) -> Autoencoder:
    """Make a model from its pickle."""
    return Autoencoder(bundle, **options)
