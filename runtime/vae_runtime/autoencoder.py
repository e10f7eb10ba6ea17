"""A whole bundle as one object: sample, encode, decode, reconstruct, traverse, score."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .arrays import Labels, as_labels, as_latents, check_images, check_labels
from .bundle.manifest import Manifest
from .bundle.reader import Bundle, open_bundle
from .bundle.spec import ModelSpec
from .errors import InputError, StateError, UsageError
from .graphs import Decoder, Encoder, check_dtype, check_same_bundle
from .inference.batching import BATCH_SIZE
from .latents import interpolation, traversal
from .prior import check_sampling, choose_prior, fresh_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import ArrayLike, NDArray

    from .metrics import Codec, Evaluation, Scores

DEFAULT_BUNDLE = "mnist"
DEFAULT_VARIANT = "fp32"  # which every bundle has


def load(
    source: str | Path = DEFAULT_BUNDLE,
    *,
    device: str = "auto",
    threads: int = 1,
    variant: str = DEFAULT_VARIANT,
    tf32: bool = False,
) -> Autoencoder:
    """Open a bundle.

    Args:
        source: a folder or `.zip` that vae-export wrote, or an embedded bundle's name (`mnist`).
        device: `auto` (CUDA if it works, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: threads per run; for models this small one is the fastest.
        variant: precision of the graphs, if the bundle has more than `fp32`: `fp16`, `int8`.
        tf32: lets CUDA round to ten bits of mantissa: faster, but not the same pixels.

    Raises:
        NotFound: no such bundle.
        InputError: not a bundle, or one of a newer format.
        UsageError: the bundle has no graph of this variant.
        IntegrityError: a file is damaged (raised when it is first needed).
        DeviceError: CUDA was asked for and is not available (likewise raised at first use).
    """
    return Autoencoder(
        open_bundle(source), device=device, threads=threads, variant=variant, tf32=tf32
    )


class Autoencoder:
    """A bundle, ready to run. Safe to share between threads.

    Images are float32 in [0, 1] or uint8, as H×W, N×H×W, N×C×H×W or N×H×W×C. A label is a class
    index, a class name, or one of these per image. Graphs are loaded when first needed.
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
        """Wrap an opened bundle; `load` is the usual way, with the same arguments."""
        known = sorted({graph.variant for graph in bundle.manifest.graphs})
        if variant not in known:
            raise UsageError(
                f"{bundle.name}: has no variant {variant!r}, expected one of: {', '.join(known)}"
            )
        self._bundle, self._variant = bundle, variant
        self._device, self._threads, self._tf32 = device, threads, tf32
        self._graphs: dict[str, Encoder | Decoder] = {}  # by file name
        self._decoders: dict[tuple[bool, str], Decoder] = {}  # by the arguments of `decoder`
        self._lock = threading.Lock()
        self._closed = False

    @property
    def manifest(self) -> Manifest:
        """All that the bundle says about itself."""
        return self._bundle.manifest

    @property
    def spec(self) -> ModelSpec:
        """Family, image shape, latent size, classes and prior."""
        return self._bundle.manifest.spec

    @property
    def device(self) -> str:
        """Where the model really runs: `cpu` or `cuda:N`. Loads a graph if there is none yet."""
        with self._lock:
            loaded = next(iter(self._graphs.values()), None)
        return (loaded or self.decoder()).device

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
        """Sample n images.

        Args:
            n: how many.
            label: the class to sample, for a CVAE; None samples without a label.
            seed: the same seed gives the same images, bit for bit; None picks a fresh one.
            prior: `fitted` (the bundle's) or `normal` (N(0, I)).
            temperature: scales the spread of the latents; 0 gives the most typical images.
            truncation: redraws latents beyond this many standard deviations.
            dtype: `float32` in [0, 1] or `uint8`.

        Returns:
            [n, C, H, W].
        """
        batches = self.stream(
            n, label, seed, prior=prior, temperature=temperature, truncation=truncation, dtype=dtype
        )
        if 0 < n <= BATCH_SIZE:
            return next(batches)
        images = np.empty((n, *self.spec.image.shape), dtype)
        for i, batch in enumerate(batches):
            images[i * BATCH_SIZE : (i + 1) * BATCH_SIZE] = batch
        return images

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
        """Sample images `start` to `start + n` of a seed, batch by batch, in constant memory.

        `np.concatenate(list(stream(n, label, seed)))` equals `sample(n, label, seed)`, bit for bit.

        Args:
            n: how many; None never ends.
            label: one class for all, or n of them.
            seed: None picks a fresh one.
            start: the index of the first image in the endless sequence that belongs to the seed.
            batch_size: images per array.
            prior: as for `sample`.
            temperature: as for `sample`.
            truncation: as for `sample`.
            dtype: as for `sample`.

        Yields:
            [batch_size, C, H, W]; the last one may be shorter.
        """
        # All of this runs when `stream` is called, not when the first batch is asked for.
        check_sampling(0 if n is None else n, seed, temperature, truncation)
        if batch_size < 1 or start < 0:
            raise UsageError(
                f"batch_size is {batch_size} and start {start}, expected at least 1 and 0"
            )
        check_dtype(dtype)
        spec = self.spec
        labels, chosen = check_labels(label, n, spec), choose_prior(spec.prior, prior)
        seed = fresh_seed() if seed is None else seed

        def sample_batch(first: int) -> NDArray[Any]:
            rows = batch_size if n is None else min(batch_size, n - first)
            part = labels[first : first + rows] if isinstance(labels, np.ndarray) else labels
            z = chosen.sample_checked(rows, part, seed, start + first, temperature, truncation)
            return self.decoder(conditional=part is not None, dtype=dtype).decode(z, part, dtype)

        return map(sample_batch, count(0, batch_size) if n is None else range(0, n, batch_size))

    def sample_latents(
        self,
        n: int = 1,
        label: Labels = None,
        seed: int | None = None,
        *,
        start: int = 0,
        prior: str = "fitted",
        temperature: float = 1.0,
        truncation: float | None = None,
    ) -> NDArray[np.float32]:
        """The latents f32[n, D] that `sample` decodes, with the same arguments."""
        labels, chosen = check_labels(label, n, self.spec), choose_prior(self.spec.prior, prior)
        return chosen.sample(
            n, labels, seed, start=start, temperature=temperature, truncation=truncation
        )

    def encode(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """The latents of each image, f32[N, D]; for a VAE, the posterior mean."""
        return self.encoder()(images, label)

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and log variance of q(z | image), each f32[N, D]; None for the variance of an AE."""
        return self.encoder().posterior(images, label)

    def decode(self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32") -> NDArray[Any]:
        """Images [N, C, H, W] from latents f32[N, D] or f32[D]."""
        return self.decoder(conditional=label is not None, dtype=dtype)(z, label, dtype=dtype)

    def reconstruct(
        self, images: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Encode and decode: [N, C, H, W], from the posterior mean."""
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
        """Vary one latent dimension and keep the others.

        Args:
            dim: which dimension, 0 to D - 1.
            steps: how many frames.
            label: the class, for a CVAE.
            seed: seed of the latents to start from.
            image: start from the latents of this image instead.
            span: how far to go either way, in standard deviations of that dimension.
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        index = check_labels(label, 1, self.spec)
        if image is None:
            start = self.sample_latents(1, label, seed)[0]
        else:
            start = self._encode_one(image, label)
        spread = self.spec.prior.spread(index if isinstance(index, int) else None)
        return self.decode(traversal(start, dim, steps, span, *spread), label, dtype=dtype)

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
        """Morph between two images, or between two latents f32[D].

        Args:
            a: the start.
            b: the end.
            steps: how many frames, both ends included.
            label: the class, for a CVAE.
            how: `linear`, or `spherical` along the great circle (White 2016, arXiv 1609.04468).
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        path = interpolation(self._latents_of(a, label), self._latents_of(b, label), steps, how)
        return self.decode(path, label, dtype=dtype)

    def score(
        self,
        images: ArrayLike,
        label: Labels = None,
        *,
        samples: int = 1,
        seed: int = 0,
        start: int = 0,
    ) -> Scores:
        """Score how well the model knows each image: reconstruction error, KL, negative ELBO.

        Args:
            images: what to score.
            label: the class of each, for a CVAE; None scores without labels.
            samples: posterior samples per image for the negative ELBO.
            seed: seed of these samples.
            start: the index of the first image; image i of a seed has samples of its own.
        """
        from .metrics import score

        pixels = check_images(images, self.spec.image)
        return score(self._codec(), pixels, self._labels(label, len(pixels)), samples, seed, start)

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
        """Measure squared error, ELBO, IWAE bound and active units over a data set.

        The arguments are those of `vae_runtime.metrics.evaluate`.
        """
        from .metrics import evaluate

        pixels = check_images(images, self.spec.image)
        labels = self._labels(label, len(pixels))
        return evaluate(
            self._codec(),
            pixels,
            labels,
            samples=samples,
            binarise=binarise,
            seed=seed,
            track=track,
        )

    def encoder(self) -> Encoder:
        """The encoder's graph."""
        graph = self._load("encoder", self._variant)
        assert isinstance(graph, Encoder)
        return graph

    def decoder(self, *, conditional: bool = False, dtype: str = "float32") -> Decoder:
        """The decoder's graph, with or without a label.

        For `uint8`, the variant that gives bytes if the bundle has one: that saves a second pass
        over the pixels.

        Raises:
            UsageError: a label for a model without classes; an unknown dtype.
        """
        found = self._decoders.get((conditional, dtype))
        if found is not None:
            return found
        if conditional and not self.spec.classes:
            raise UsageError(f"this {self.spec.family} takes no label")
        check_dtype(dtype)
        bytes_wanted = dtype == "uint8" and self._variant == DEFAULT_VARIANT
        role = "conditional_decoder" if conditional else "decoder"
        graph = self._load(role, "uint8" if bytes_wanted else self._variant)
        assert isinstance(graph, Decoder)
        self._decoders[conditional, dtype] = graph
        return graph

    def close(self) -> None:
        """Free the memory; the model cannot be used afterwards."""
        with self._lock:
            self._closed = True
            for graph in self._graphs.values():
                graph.close()
            self._graphs.clear()
            self._decoders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(self, role: str, variant: str) -> Encoder | Decoder:
        """The graph of a role, loaded if need be: in this variant, or as exported without it."""
        manifest, name = self._bundle.manifest, self._bundle.name
        graph_spec = manifest.graph(role, variant) or manifest.graph(role)
        if graph_spec is None:
            raise InputError(f"{name}: has no {role}")
        file = graph_spec.file.file
        with self._lock:
            if self._closed:
                raise StateError("this model was closed. Load it again.")
            if file not in self._graphs:
                make = Encoder if role == "encoder" else Decoder
                raw, known = self._bundle.read(graph_spec.file), (manifest.spec, graph_spec)
                graph = make(
                    raw, device=self._device, threads=self._threads, tf32=self._tf32, known=known
                )
                check_same_bundle(graph, manifest.spec, f"{name}/{file}")
                self._graphs[file] = graph
            return self._graphs[file]

    def _codec(self) -> Codec:
        from .metrics import Codec

        return Codec(self.posterior, self.decode, self.spec.likelihood, self.spec.sigma)

    def _labels(self, label: Labels, n: int) -> NDArray[np.int64] | None:
        return None if label is None else as_labels(label, n, self.spec)

    def _latents_of(self, item: ArrayLike, label: Labels) -> NDArray[np.float32]:
        """Latents f32[D] as they are; an image through the encoder."""
        array = np.asarray(item)
        if array.shape != (self.spec.latent_dim,):
            return self._encode_one(array, label)
        row: NDArray[np.float32] = as_latents(item, self.spec.latent_dim)[0]
        return row

    def _encode_one(self, image: ArrayLike, label: Labels) -> NDArray[np.float32]:
        latents = self.encode(image, label)
        if len(latents) != 1:
            raise InputError(f"image: {len(latents)} images, expected one")
        row: NDArray[np.float32] = latents[0]
        return row
