"""A whole bundle as one object: sample, encode, decode, reconstruct, traverse, score."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import latents as latent
from .arrays import Labels, as_labels, as_latents, check_images, one_index, stream_labels
from .bundle.manifest import Manifest
from .bundle.reader import Bundle, open_bundle
from .bundle.spec import GraphSpec, ModelSpec
from .errors import InputError, StateError, UsageError
from .graphs import Decoder, Encoder, check_dtype, check_same_bundle
from .inference.batching import BATCH_SIZE
from .prior import check_sampling, choose_prior, fresh_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from .metrics import Scores


DEFAULT_BUNDLE = "mnist"
PLAIN = "fp32"  # the variant that every bundle has
BYTES = "uint8"  # the variant that gives bytes


def load(
    source: str | Path = DEFAULT_BUNDLE,
    *,
    device: str = "auto",
    threads: int = 1,
    variant: str = PLAIN,
    tf32: bool = False,
) -> Autoencoder:
    """Open a bundle.

    Args:
        source: a folder or `.zip` that vae-export wrote, or an embedded bundle's name (`mnist`).
        device: `auto` (CUDA if it works, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: of one run; for models this small one is the fastest.
        variant: precision of the graphs, where the bundle has more than `fp32`: `fp16`, `int8`.
        tf32: lets CUDA round to ten bits of mantissa: faster, not the same pixels.

    Raises:
        NotFound: no such bundle.
        InputError: not a bundle, or one of a newer format.
        IntegrityError: a file is damaged (found when it is first needed).
        DeviceError: CUDA was asked for and is not available (likewise).
    """
    return Autoencoder(
        open_bundle(source), device=device, threads=threads, variant=variant, tf32=tf32
    )


class Autoencoder:
    """A bundle, ready to run. Safe to share between threads.

    Images come as float32 in [0, 1] or as uint8, H×W, N×H×W, N×C×H×W or N×H×W×C; a label is a class
    index, a class name, or one of these for each image. Graphs are loaded when first needed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        threads: int = 1,
        variant: str = PLAIN,
        tf32: bool = False,
    ) -> None:
        """Wrap an opened bundle; `load` is the usual way."""
        options = {"device": device, "threads": threads, "tf32": tf32}
        self._bundle = bundle
        self._graphs = LoadedGraphs(bundle, variant, options)

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
        """Where the model really runs: `cpu` or `cuda:N`."""
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
        """Draw n images.

        Args:
            n: how many.
            label: what to draw, for a CVAE; None draws without a label.
            seed: the same seed gives the same images, bit for bit; None draws a fresh one.
            prior: `fitted` (the bundle's) or `normal` (N(0, I)).
            temperature: scales the spread of the latents; 0 gives the most typical images.
            truncation: redraws latents beyond this many standard deviations.
            dtype: `float32` in [0, 1] or `uint8`.

        Returns:
            [n, C, H, W].
        """
        check_sampling(n, seed, temperature, truncation)
        images = np.empty((n, *self.spec.image.shape), check_dtype(dtype))
        options: dict[str, Any] = {"temperature": temperature, "truncation": truncation}
        parts = self.stream(n, label, seed, prior=prior, dtype=dtype, **options)
        for i, part in enumerate(parts):
            images[i * BATCH_SIZE : (i + 1) * BATCH_SIZE] = part
        return images

    def stream(
        self,
        n: int | None = None,
        label: Labels = None,
        seed: int | None = None,
        *,
        start: int = 0,
        chunk: int = BATCH_SIZE,
        prior: str = "fitted",
        temperature: float = 1.0,
        truncation: float | None = None,
        dtype: str = "float32",
    ) -> Iterator[NDArray[Any]]:
        """Draw images `start` to `start + n` of a seed, a chunk at a time, in constant memory.

        `np.concatenate(list(stream(n, label, seed)))` is `sample(n, label, seed)`, bit for bit.

        Args:
            n: how many; None never ends.
            label: one class for all, or n of them.
            seed: None draws a fresh one.
            start: the index of the first image in the endless sequence that belongs to the seed.
            chunk: images in each array.
            prior: see `sample`, as for the others below.
            temperature: likewise.
            truncation: likewise.
            dtype: likewise.

        Yields:
            [chunk, C, H, W], the last one shorter.
        """
        check_sampling(0 if n is None else n, seed, temperature, truncation)
        check_dtype(dtype)
        if chunk < 1 or start < 0:
            raise UsageError(f"chunk is {chunk} and start {start}, expected at least 1 and 0")
        labels = stream_labels(label, n, self.spec)
        seed = fresh_seed() if seed is None else seed
        options: dict[str, Any] = {"temperature": temperature, "truncation": truncation}

        def one(first: int, count: int) -> NDArray[Any]:
            part = labels[first : first + count] if isinstance(labels, np.ndarray) else labels
            z = self.sample_latents(count, part, seed, start=start + first, prior=prior, **options)
            return self.decode(z, part, dtype=dtype)

        choose_prior(self.spec.prior, prior)  # refuse now, not at the iterator's first step
        starts = count(0, chunk) if n is None else range(0, n, chunk)
        return (one(i, chunk if n is None else min(chunk, n - i)) for i in starts)

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
        labels = None if label is None else as_labels(label, n, self.spec)
        return choose_prior(self.spec.prior, prior).sample(
            n, labels, seed, start=start, temperature=temperature, truncation=truncation
        )

    def encode(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """The code of each image, f32[N, D]: of a VAE, the posterior's mean."""
        return self._graphs.encoder()(images, label)

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and log variance of q(z | image), each f32[N, D]; an AE has no variance."""
        return self._graphs.encoder().posterior(images, label)

    def decode(self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32") -> NDArray[Any]:
        """Images [N, C, H, W] of latents f32[N, D] or f32[D]."""
        decoder = self._graphs.decoder(conditional=label is not None, dtype=dtype)
        return decoder(z, label, dtype=dtype)

    def reconstruct(
        self, images: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Encode and decode: [N, C, H, W], from the mean code."""
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
        spread = self.spec.prior.spread(None if label is None else one_index(label, self.spec))
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
        """Morph between two images, or two latents f32[D].

        Args:
            a: where to start.
            b: where to end.
            steps: how many frames, both ends included.
            label: the class, for a CVAE.
            how: `linear`, or `spherical` along the great circle (White 2016, arXiv 1609.04468).
            dtype: `float32` or `uint8`.

        Returns:
            [steps, C, H, W].
        """
        path = latent.interpolation(self._code(a, label), self._code(b, label), steps, how)
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
        """How well the model knows each image: reconstruction error, KL, negative ELBO.

        Args:
            images: what to score.
            label: the class of each, for a CVAE; None scores without labels.
            samples: latents drawn from q(z | image) for the negative ELBO.
            seed: of those draws.
            start: the index of the first image; image i of a seed has draws of its own.
        """
        from .metrics import score

        pixels = check_images(images, self.spec.image)
        labels = None if label is None else as_labels(label, len(pixels), self.spec)
        return score(self, pixels, labels, samples, seed, start)

    def close(self) -> None:
        """Give all memory back; the model cannot be used afterwards."""
        self._graphs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _code(self, item: ArrayLike, label: Labels) -> NDArray[np.float32]:
        """A code f32[D] as it is; an image through the encoder."""
        array = np.asarray(item)
        if array.shape == (self.spec.latent_dim,):
            return _row(as_latents(item, self.spec.latent_dim))
        return self._one_code(array, label)

    def _one_code(self, image: ArrayLike, label: Labels) -> NDArray[np.float32]:
        latents = self.encode(image, label)
        if len(latents) != 1:
            raise InputError(f"image: {len(latents)} images, expected one")
        return _row(latents)

    def _start(
        self, image: ArrayLike | None, label: int | str | None, seed: int | None
    ) -> NDArray[np.float32]:
        return (
            _row(self.sample_latents(1, label, seed))
            if image is None
            else self._one_code(image, label)
        )


def _row(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """The first of f32[N, D]."""
    row: NDArray[np.float32] = latents[0]
    return row


class LoadedGraphs:
    """Encoder and decoders of a bundle in one variant, where it has that, else as exported."""

    def __init__(self, bundle: Bundle, variant: str, options: dict[str, Any]) -> None:
        """Load nothing yet.

        Args:
            bundle: where the graphs are.
            variant: `fp32`, or another one that the bundle has.
            options: `device`, `threads` and `tf32` of every session.

        Raises:
            UsageError: the bundle has no graph of this variant.
        """
        known = sorted({g.variant for g in bundle.manifest.graphs})
        if variant not in known:
            raise UsageError(
                f"{bundle.name}: has no variant {variant!r}, expected one of: {', '.join(known)}"
            )
        self._bundle, self._variant, self._options = bundle, variant, options
        self._loaded: dict[str, Encoder | Decoder] = {}
        self._decoders: dict[tuple[bool, str], Decoder] = {}  # what `decoder` found before
        self._lock = threading.Lock()
        self._closed = False

    @property
    def device(self) -> str:
        """Where the graphs really run; loads one if there is none yet."""
        with self._lock:
            loaded = next(iter(self._loaded.values()), None)
        return (loaded or self.decoder(conditional=False)).device

    def encoder(self) -> Encoder:
        """The encoder."""
        graph = self._graph("encoder", self._variant)
        assert isinstance(graph, Encoder)
        return graph

    def decoder(self, *, conditional: bool, dtype: str = "float32") -> Decoder:
        """The decoder with or without a label; for `uint8` the variant that gives bytes, if any.

        Raises:
            UsageError: a label for a model without classes; an unknown dtype.
        """
        found = self._decoders.get((conditional, dtype))
        if found is not None:
            return found
        spec = self._bundle.manifest.spec
        if conditional and not spec.classes:
            raise UsageError(f"this {spec.family} takes no label")
        check_dtype(dtype)
        # Bytes straight from the graph: no second pass over the pixels.
        variant = BYTES if dtype == "uint8" and self._variant == PLAIN else self._variant
        graph = self._graph("conditional_decoder" if conditional else "decoder", variant)
        assert isinstance(graph, Decoder)
        self._decoders[conditional, dtype] = graph
        return graph

    def close(self) -> None:
        """Close every session."""
        with self._lock:
            self._closed = True
            for graph in self._loaded.values():
                graph.close()
            self._loaded.clear()
            self._decoders.clear()

    def _graph(self, role: str, variant: str) -> Encoder | Decoder:
        manifest = self._bundle.manifest
        spec = manifest.graph(role, variant) or manifest.graph(role)
        if spec is None:
            raise InputError(f"{self._bundle.name}: has no {role}")
        name = spec.file.file
        with self._lock:
            if self._closed:
                raise StateError("this model was closed. Load it again.")
            if name not in self._loaded:
                self._loaded[name] = self._load(spec)
            return self._loaded[name]

    def _load(self, graph_spec: GraphSpec) -> Encoder | Decoder:
        make = Encoder if graph_spec.role == "encoder" else Decoder
        spec = self._bundle.manifest.spec
        graph = make(self._bundle.read(graph_spec.file), known=(spec, graph_spec), **self._options)
        check_same_bundle(graph, spec, f"{self._bundle.name}/{graph_spec.file.file}")
        return graph
