"""`Encoder` and `Decoder`: one graph, from a bundle or from a single `.onnx` file."""

from __future__ import annotations

import os
import threading
from dataclasses import asdict, dataclass
from itertools import count
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .arrays import as_latents, check_images, check_whole
from .bundle.spec import METADATA_KEY, ROLES, ModelSpec, expected_tensors, parse_spec, same_id
from .errors import InputError, StateError, UsageError
from .graph_source import GraphSource, check_bytes, not_ours
from .inference.batching import BATCH_SIZE, Output, rows_per_batch, run_batched
from .inference.devices import parse_device
from .inference.session import Session
from .labels import Indices, Labels, check_labels, label_rows
from .prior import choose_prior
from .rng import check_sampling, fresh_seed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from .bundle.reader import Bundle
    from .bundle.spec import GraphSpec
    from .graph_checks import GraphContents

DTYPES = ("float32", "uint8")
_ORT = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}
_loading = threading.RLock()


@dataclass(frozen=True)
class RunOptions:
    """How to run graphs.

    Attributes:
        device: see `load`.
        threads: threads per run.
        tf32: let CUDA use TF32.

    Raises:
        UsageError: the device has another form, or `threads` is not a whole number of at least 1.
    """

    device: str = "auto"
    threads: int = 1
    tf32: bool = False

    def __post_init__(self) -> None:
        parse_device(self.device)
        check_whole("threads", self.threads, 1)


class Graph:
    """The base class of the graphs of a bundle: a session and the spec stored in the file.

    Threads may share an instance. Inputs of any length run in batches; the results are bit for bit
    the same for every batch size and number of threads. A process forked from this one loads the
    graph again on first use. A pickle holds the source and its checksum.

    Attributes:
        spec: family, image shape, number of latent dimensions, classes and prior.
        role: `encoder`, `decoder`, `conditional_decoder` or `sampler`.
        variant: precision or output type; `fp32` is the unconverted graph.
        takes_label: whether the graph has a `label` input.
        batch_size: rows per run.
    """

    roles: tuple[str, ...] = ROLES

    def __init__(
        self,
        source: str | Path | bytes | Any,
        *,
        device: str = "auto",
        threads: int = 1,
        tf32: bool = False,
        known: tuple[Bundle, GraphSpec] | None = None,
    ) -> None:
        """Load one graph.

        Args:
            source: the path of an `.onnx` file, its bytes, or an existing onnxruntime session.
            device: see `load`.
            threads: threads per run.
            tf32: let CUDA use TF32 (ten mantissa bits), which is faster but alters the pixels.
            known: for bytes from an open bundle, that bundle and the graph's entry in its manifest.

        Raises:
            NotFound: the file does not exist.
            InputError: the file was not written by vae-export, has the wrong role, belongs to
                another bundle, or has harmful content (refused before onnxruntime reads it).
            IntegrityError: the bytes have changed since they were written.
            DeviceError: the requested device is not available.
        """
        self._options = RunOptions(device, threads, tf32)
        origin = GraphSource.of(source, known)
        where = origin.where
        model: Any = source
        if origin.origin is not None:
            model = source if known is not None else origin.read()
            # A bundle's graphs have already been checked against the sha256 in the manifest.
            check_bytes(model, where, checksum=known is None)
            origin = origin.pinned(model)
        self._source = origin
        self._session = Session(model, name=where, **asdict(self._options))
        text = self._session.metadata.get(METADATA_KEY)
        if text is None:
            raise not_ours(where)
        if known is None:
            self.spec, self.role, self.variant = parse_spec(text, where)
        else:
            self.spec = known[0].manifest.spec
            self.role, self.variant = known[1].role, known[1].variant
            expected = self.spec.id
            found = expected if same_id(text, self.spec) else parse_spec(text, where)[0].id
            if found != expected:
                raise InputError(
                    f"{where}: belongs to bundle {found}, expected {expected}. Export again."
                )
        if self.role not in self.roles:
            roles = " or ".join(self.roles)
            raise InputError(f"{where}: the role of this graph is {self.role}, expected {roles}")
        check_tensors(self._session, self.spec, self.role, self.variant, where)
        self.takes_label = "label" in self._session.inputs
        self.batch_size = rows_per_batch(prod(self.spec.image.shape), self._session.device)

    @property
    def session(self) -> Session:
        """The session that runs the graph, loaded again after a fork.

        Raises:
            StateError: this process was forked, and the graph was made from an onnxruntime session.
            IntegrityError: this process was forked, and the file has been replaced.
        """
        if self._session.inherited:
            with loading():
                if self._session.inherited:
                    self._session = Session(
                        self._source.read(), name=self._source.where, **asdict(self._options)
                    )
        return self._session

    @property
    def device(self) -> str:
        """The device in use, such as `cpu` or `cuda:0`."""
        return self._session.device

    def _check_dtype(self, dtype: str) -> None:
        """Check the dtype of the images to return.

        Raises:
            UsageError: it is unknown, or not the one that this variant returns.
        """
        check_dtype(dtype)
        if dtype != "uint8" and self.variant == "uint8":
            raise UsageError(f"this {self.role} returns uint8 only. Pass dtype='uint8'.")

    def close(self) -> None:
        """Release the session; the graph cannot be used afterwards."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        sides = (", ".join(tensors) for tensors in (self._session.inputs, self._session.outputs))
        what = f"{self.role} of {self.spec.summary}"
        return f"<{type(self).__name__}: {what}; {' → '.join(sides)}; {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source.origin is None:
            raise StateError("a graph made from an onnxruntime session cannot be pickled")
        return _restore, (type(self), self._source, self._options)


class Decoder(Graph):
    """A graph from latents to images; a conditional decoder also takes a label."""

    roles = ("decoder", "conditional_decoder")

    def __init__(self, source: str | Path | bytes | Any, **options: Any) -> None:
        """Load a decoder; arguments as for `Graph`."""
        super().__init__(source, **options)
        shape = self.spec.image.shape
        self._outputs = {dtype: {"image": Output(shape, np.dtype(dtype))} for dtype in DTYPES}

    def __call__(
        self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Decode latents to images.

        Args:
            z: f32[N, *latent_shape] or f32[*latent_shape]; flattened latents, f32[N, D], are
                reshaped.
            label: one class index or name for all rows, or one per row; None for no label.
            dtype: `float32` in [0, 1], or `uint8`, 0 to 255.

        Returns:
            [N, C, H, W].

        Raises:
            InputError: the latents have the wrong dtype, byte order or shape, or are not finite; or
                a label is out of range.
            UsageError: the graph takes no label, or a class or dtype is unknown.
        """
        latents = as_latents(z, self.spec.latent_shape)
        self._check_call(label, dtype)
        return self.decode(latents, check_labels(label, len(latents), self.spec), dtype)

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
        """Sample images [n, C, H, W] from the prior; see `Autoencoder.sample`."""
        rows = max(BATCH_SIZE, self.batch_size)
        batches = self.stream(
            n, label, seed, batch_size=rows, prior=prior, temperature=temperature,
            truncation=truncation, dtype=dtype,
        )  # fmt: skip
        if 0 < n <= rows:
            return next(batches)
        images = np.empty((n, *self.spec.image.shape), dtype)
        for i, batch in enumerate(batches):
            images[i * rows : (i + 1) * rows] = batch
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
        """Sample images batch by batch, in constant memory; see `Autoencoder.stream`."""
        # Not a generator function, so that invalid arguments raise here, not at the first batch.
        check_sampling(0 if n is None else n, seed, temperature, truncation)
        check_whole("batch_size", batch_size, 1)
        check_whole("start", start, 0)
        self._check_call(label, dtype)
        spec = self.spec
        labels, chosen = check_labels(label, n, spec), choose_prior(spec.prior, prior)
        seed = fresh_seed() if seed is None else seed

        def sample_batch(first: int) -> NDArray[Any]:
            rows = batch_size if n is None else min(batch_size, n - first)
            part = labels[first : first + rows] if isinstance(labels, np.ndarray) else labels
            z = chosen.sample_checked(rows, part, seed, start + first, temperature, truncation)
            return self.decode(z.reshape(rows, *spec.latent_shape), part, dtype)

        return map(sample_batch, count(0, batch_size) if n is None else range(0, n, batch_size))

    def _check_call(self, label: object, dtype: str) -> None:
        self._check_dtype(dtype)
        if label is not None and self.spec.classes and not self.takes_label:
            raise UsageError(f"this {self.spec.family} {self.role} takes no label")

    def decode(
        self, latents: NDArray[np.float32], label: Indices, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Decode latents f32[N, *latent_shape]; the caller must have checked all arguments."""
        inputs: dict[str, NDArray[Any]] = {"z": latents}
        if self.takes_label:
            inputs["label"] = label_rows(label, len(latents), len(self.spec.classes))
        return run_batched(self.session, inputs, self._outputs[dtype], self.batch_size)[0]


class Sampler(Graph):
    """A graph from standard normals to images: the prior and the decoder in one."""

    roles = ("sampler",)

    def __call__(
        self, noise: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Turn noise into images.

        Args:
            noise: independent standard normals, f32[N, D + 1] or f32[D + 1]. The first number of a
                row picks the component of a mixture; scaling the others scales the spread.
            label: as for `Decoder`.
            dtype: `float32` in [0, 1], or `uint8`, 0 to 255.

        Returns:
            [N, C, H, W].

        Raises:
            InputError: the noise has the wrong dtype, byte order or shape, or is not finite; or a
                label is out of range.
            UsageError: the model takes no label, or a class or dtype is unknown.
        """
        rows = as_latents(noise, (self.spec.latent_dim + 1,), "noise")
        self._check_dtype(dtype)
        inputs: dict[str, NDArray[Any]] = {"noise": rows}
        index = check_labels(label, len(rows), self.spec)
        if self.takes_label:
            inputs["label"] = label_rows(index, len(rows), len(self.spec.classes))
        output = {"image": Output(self.spec.image.shape, np.dtype(dtype))}
        return run_batched(self.session, inputs, output, self.batch_size)[0]


class Encoder(Graph):
    """A graph from images to latents."""

    roles = ("encoder",)

    def __call__(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """Encode images to latents f32[N, *latent_shape]: an AE's `z`, or the posterior means."""
        return self.posterior(images, label)[0]

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return mean and log variance of q(z | image); the log variance is None for an AE.

        Args:
            images: u8, or f32 in [0, 1], in any layout that `check_images` accepts.
            label: as for `Decoder`, but ignored if the encoder has no label input.

        Returns:
            Both f32[N, *latent_shape].
        """
        pixels = check_images(images, self.spec.image)
        inputs = {"image": pixels}
        index = check_labels(label, len(pixels), self.spec)
        if self.takes_label:
            inputs["label"] = label_rows(index, len(pixels), len(self.spec.classes))
        output = Output(self.spec.latent_shape, np.dtype(np.float32))
        names = ["z"] if self.spec.family == "ae" else ["mu", "log_var"]
        outputs = dict.fromkeys(names, output)
        mu, *log_var = run_batched(self.session, inputs, outputs, self.batch_size)
        return mu, log_var[0] if log_var else None


def check_dtype(dtype: str) -> None:
    """Check that a dtype is `float32` or `uint8`.

    Raises:
        UsageError: it is neither.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, expected 'float32' or 'uint8'")


def check_tensors(
    graph: Session | GraphContents, spec: ModelSpec, role: str, variant: str, where: str
) -> None:
    """Check a graph's inputs and outputs, as onnxruntime or the file states them, against its spec.

    Raises:
        InputError: a name, dtype or shape differs.
    """
    expected = expected_tensors(spec, role, variant, labelled="label" in graph.inputs)
    for side, found in zip(expected, (graph.inputs, graph.outputs), strict=True):
        wanted = [(t.name, _ORT[t.dtype], list(t.shape[1:])) for t in side]
        given = [(t.name, t.type, list(t.shape[1:])) for t in found.values()]
        free = all(t.shape and not isinstance(t.shape[0], int) for t in found.values())
        if given != wanted or not free:
            raise InputError(
                f"{where}: its tensors {given} do not fit its spec, which has {wanted}"
            )


def _restore(cls: type[Graph], source: GraphSource, options: RunOptions) -> Graph:
    """Load a graph from its pickle."""
    raw, known = source.read(), source.origin if isinstance(source.origin, tuple) else None
    path = source.origin if isinstance(source.origin, Path) else raw
    return cls(path, known=known, **asdict(options))


def loading() -> threading.RLock:
    """Return the lock to hold while loading a graph."""
    return _loading


def _new_lock() -> None:
    """In a forked child, replace the lock: a thread that the fork did not copy may hold it."""
    global _loading
    _loading = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)
