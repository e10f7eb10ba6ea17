"""A whole bundle as one object: sample, encode, decode, reconstruct, traverse, interpolate, score."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import latent
from .arrays import Labels, as_codes, as_images, as_labels
from .bundle import Bundle, open_bundle
from .card import Card
from .errors import InputError, UsageError
from .graphs import Decoder, Encoder, check_same_bundle
from .manifest import Manifest
from .prior import Prior, fresh_seed

DEFAULT_BUNDLE = "mnist"


class Scores(NamedTuple):
    """One number an image, each f64[N]; sums over pixels and latent dimensions.

    Attributes:
        error: squared error of the reconstruction from the mean code, a pixel.
        kl: KL(q(z | image) ‖ N(0, I)) in nats; 0 for an AE.
        negative_elbo: -log p(image | z) + KL in nats, z drawn from q; for an AE the first term.
    """

    error: NDArray[np.float64]
    kl: NDArray[np.float64]
    negative_elbo: NDArray[np.float64]


class Autoencoder:
    """A bundle, ready to run. Safe to share between threads.

    Images come as float32 in [0, 1] or as uint8, H×W, N×H×W, N×C×H×W or N×H×W×C; a label is a class
    index, a class name, or one of these for each image. Graphs are loaded when first needed.
    """

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 1) -> None:
        """Wrap an opened bundle; `load` is the usual way."""
        self._bundle = bundle
        self._options: dict[str, Any] = {"device": device, "threads": threads}
        self._graphs: dict[str, Encoder | Decoder] = {}
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """All that the bundle says about itself."""
        return self._bundle.manifest

    @property
    def card(self) -> Card:
        """Family, image shape, latent size, classes and prior."""
        return self._bundle.manifest.card

    @property
    def device(self) -> str:
        """Where the model really runs: `cpu` or `cuda:N`."""
        return self._decoder(None).device

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
        """Draw n images.

        Args:
            n: how many.
            label: what to draw, for a CVAE; None draws without a label.
            seed: the same seed gives the same images, bit for bit; None draws a fresh one.
            prior: `fitted` (the bundle's) or `normal` (N(0, I)).
            temperature: scales the spread of the codes; 0 gives the most typical images.
            truncation: redraws codes beyond this many standard deviations.
            dtype: `float32` in [0, 1] or `uint8`.

        Returns:
            [n, C, H, W].
        """
        labels = None if label is None else as_labels(label, n, self.card)
        z = self._prior(prior).sample(
            n, labels, seed, temperature=temperature, truncation=truncation
        )
        return self.decode(z, labels, dtype=dtype)

    def encode(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """The code of each image, f32[N, D]: of a VAE, the posterior's mean."""
        return self._encoder()(images, label)

    def decode(self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32") -> NDArray[Any]:
        """Images [N, C, H, W] of codes f32[N, D]."""
        return self._decoder(label)(z, label, dtype=dtype)

    def reconstruct(
        self, images: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Encode and decode: [N, C, H, W]."""
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
        """Vary one latent dimension, all others held.

        Args:
            dim: which dimension, 0 to D - 1.
            steps: how many frames.
            label: the class, for a CVAE.
            seed: of the code to start from.
            image: start from this image's code instead.
            span: how far to go either way, in standard deviations of that dimension.
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        start = self._start(image, label, seed)
        spread = self.card.prior.spread(None if label is None else int(self._label(label)))
        path = latent.traversal(start, dim, steps, span, *spread)
        return self.decode(path, label, dtype=dtype)

    def interpolate(
        self,
        a: ArrayLike,
        b: ArrayLike,
        steps: int = 9,
        label: int | str | None = None,
        *,
        how: str = "linear",
        dtype: str = "float32",
    ) -> NDArray[Any]:
        """Morph between two images, or two codes f32[D].

        Args:
            a, b: where to start and to end.
            steps: how many frames, both ends included.
            label: the class, for a CVAE.
            how: `linear`, or `spherical` along the great circle (White 2016, arXiv 1609.04468).
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        ends = [self._code(end, label) for end in (a, b)]
        return self.decode(latent.interpolation(*ends, steps, how), label, dtype=dtype)

    def score(
        self, images: ArrayLike, label: Labels = None, *, samples: int = 1, seed: int = 0
    ) -> Scores:
        """How well the model knows each image: reconstruction error, KL, negative ELBO.

        Args:
            images: what to score.
            label: the class of each, for a CVAE; None scores without labels.
            samples: codes drawn from q(z | image) for the negative ELBO.
            seed: of those draws.
        """
        pixels = as_images(images, self.card.image)
        mu, log_var = self._encoder().posterior(pixels, label)
        decoded = self.decode(mu, label)
        error = np.square(decoded - pixels, dtype=np.float64).mean(axis=(1, 2, 3))
        if log_var is None:
            nll = latent.negative_log_likelihood(decoded, pixels, self.card.likelihood)
            return Scores(error, np.zeros(len(pixels)), nll)
        nll = np.zeros(len(pixels))
        for k in range(samples):
            z = latent.posterior_draw(mu, log_var, seed, k)
            drawn = self.decode(z, label)
            nll += latent.negative_log_likelihood(drawn, pixels, self.card.likelihood) / samples
        kl = latent.kl_to_standard_normal(mu, log_var)
        return Scores(error, kl, nll + kl)

    def close(self) -> None:
        """Give all memory back; the model cannot be used afterwards."""
        with self._lock:
            for graph in self._graphs.values():
                graph.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _encoder(self) -> Encoder:
        graph = self._graph("encoder")
        assert isinstance(graph, Encoder)
        return graph

    def _decoder(self, label: Labels) -> Decoder:
        if label is not None and not self.card.classes:
            raise UsageError(f"this {self.card.family} takes no label")
        graph = self._graph("decoder" if label is None else "conditional_decoder")
        assert isinstance(graph, Decoder)
        return graph

    def _graph(self, role: str) -> Encoder | Decoder:
        with self._lock:
            if role not in self._graphs:
                spec = self.manifest.graph(role)
                if spec is None:
                    raise InputError(f"{self._bundle.name}: has no {role}")
                make = Encoder if role == "encoder" else Decoder
                graph = make(self._bundle.read(spec.file), **self._options)
                check_same_bundle(graph, self.card, f"{self._bundle.name}/{spec.file.file}")
                self._graphs[role] = graph
            return self._graphs[role]

    def _prior(self, name: str) -> Prior:
        if name == "fitted":
            return self.card.prior
        if name == "normal":
            return Prior.normal(self.card.latent_dim)
        raise UsageError(f"prior is {name!r}, expected 'fitted' or 'normal'")

    def _label(self, label: int | str) -> np.int64:
        index: np.int64 = as_labels(label, 1, self.card)[0]
        return index

    def _code(self, item: ArrayLike, label: Labels) -> NDArray[np.float32]:
        """A code f32[D] as it is; an image through the encoder."""
        array = np.asarray(item)
        if array.shape == (self.card.latent_dim,):
            return as_codes(array, self.card.latent_dim)[0]
        return self._one_code(array, label)

    def _one_code(self, image: ArrayLike, label: Labels) -> NDArray[np.float32]:
        codes = self.encode(image, label)
        if len(codes) != 1:
            raise InputError(f"image: {len(codes)} images, expected one")
        code: NDArray[np.float32] = codes[0]
        return code

    def _start(
        self, image: ArrayLike | None, label: int | str | None, seed: int | None
    ) -> NDArray[np.float32]:
        if image is not None:
            return self._one_code(image, label)
        index = None if label is None else as_labels(label, 1, self.card)
        drawn = self.card.prior.sample(1, index, fresh_seed() if seed is None else seed)
        start: NDArray[np.float32] = drawn[0]
        return start


def load(
    source: str | Path = DEFAULT_BUNDLE, *, device: str = "auto", threads: int = 1
) -> Autoencoder:
    """Open a bundle.

    Args:
        source: a folder or `.zip` that vae-export wrote, or an embedded bundle's name (`mnist`).
        device: `auto` (CUDA if it works, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: of one run; for models this small one is the fastest.

    Raises:
        NotFound: no such bundle.
        InputError: not a bundle, or one of a newer format.
        IntegrityError: a file is damaged (found when it is first needed).
        DeviceError: CUDA was asked for and is not available (likewise).
    """
    return Autoencoder(open_bundle(source), device=device, threads=threads)
