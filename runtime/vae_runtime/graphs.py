"""`Encoder` and `Decoder`: one graph, from a bundle or from a single `.onnx` file."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .arrays import as_latents, check_images
from .bundle.checksums import verify_graph
from .bundle.spec import METADATA_KEY, ROLES, ModelSpec, expected_tensors, parse_spec, same_id
from .errors import InputError, IntegrityError, UsageError
from .files.reading import read_bytes
from .graph_checks import check_graph
from .inference.batching import Output, rows_per_batch, run_batched
from .inference.session import Session
from .labels import Indices, Labels, check_labels, label_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .bundle.reader import Bundle
    from .bundle.spec import GraphSpec

DTYPES = ("float32", "uint8")
_ORT = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}


class Graph:
    """The base class of `Encoder` and `Decoder`: a session and the spec stored in the file.

    Threads may share an instance. Inputs of any length run in batches; the results are bit for bit
    the same for every batch size and number of threads.

    Attributes:
        spec: family, image shape, number of latent dimensions, classes and prior.
        role: `encoder`, `decoder` or `conditional_decoder`.
        variant: precision or output type; `fp32` is the unconverted graph.
        session: the onnxruntime session that runs the graph.
        takes_label: whether the graph has a `label` input.
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
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            threads: threads per run.
            tf32: let CUDA use TF32 (ten mantissa bits), which is faster but alters the pixels.
            known: for bytes from an open bundle, that bundle and the graph's entry in its manifest.

        Raises:
            NotFound: the file does not exist.
            InputError: the file was not written by vae-export, has the wrong role, belongs to
                another bundle, or has harmful content (refused before onnxruntime reads it).
            IntegrityError: the bytes have changed since they were written.
            DeviceError: CUDA was requested but is not available.
        """
        where, model = _read_source(source)
        if known is not None:
            where = f"{known[0].name}/{known[1].file.file}"
        if isinstance(model, bytes):
            # A bundle's graphs have already been checked against the sha256 in the manifest.
            _check_bytes(model, where, checksum=known is None)
        self.session = Session(model, device=device, threads=threads, tf32=tf32)
        text = self.session.metadata.get(METADATA_KEY)
        if text is None:
            raise _not_ours(where)
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
        check_tensors(self.session, self.spec, self.role, self.variant, where)
        self.takes_label = "label" in self.session.inputs
        self._batch_size = rows_per_batch(prod(self.spec.image.shape))

    @property
    def device(self) -> str:
        """The device in use: `cpu` or `cuda:N`."""
        return self.session.device

    def tensors(self) -> dict[str, list[dict[str, Any]]]:
        """Return each tensor's name, dtype and shape, under the keys `inputs` and `outputs`."""
        sides = {"inputs": self.session.inputs, "outputs": self.session.outputs}
        return {
            side: [
                {"name": t.name, "dtype": t.type[7:-1], "shape": t.shape} for t in found.values()
            ]
            for side, found in sides.items()
        }

    def close(self) -> None:
        """Release the session; the graph cannot be used afterwards."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
        check_dtype(dtype)
        return self.decode(latents, check_labels(label, len(latents), self.spec), dtype)

    def decode(
        self, latents: NDArray[np.float32], label: Indices, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Decode latents f32[N, *latent_shape]; the caller must have checked all arguments."""
        if dtype != "uint8" and self.variant == "uint8":
            raise UsageError("this decoder returns uint8 only. Pass dtype='uint8'.")
        inputs: dict[str, NDArray[Any]] = {"z": latents}
        if self.takes_label:
            inputs["label"] = label_rows(label, len(latents), len(self.spec.classes))
        elif label is not None:
            raise UsageError(f"this {self.spec.family} {self.role} takes no label")
        return run_batched(self.session, inputs, self._outputs[dtype], self._batch_size)[0]


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
        mu, *log_var = run_batched(self.session, inputs, outputs, self._batch_size)
        return mu, log_var[0] if log_var else None


def check_dtype(dtype: str) -> None:
    """Check that a dtype is `float32` or `uint8`.

    Raises:
        UsageError: it is neither.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, expected 'float32' or 'uint8'")


def check_tensors(session: Session, spec: ModelSpec, role: str, variant: str, where: str) -> None:
    """Check a graph's inputs and outputs, as onnxruntime reports them, against its spec.

    Raises:
        InputError: a name, dtype or shape differs.
    """
    expected = expected_tensors(spec, role, variant, labelled="label" in session.inputs)
    for side, found in zip(expected, (session.inputs, session.outputs), strict=True):
        wanted = [(t.name, _ORT[t.dtype], list(t.shape[1:])) for t in side]
        given = [(t.name, t.type, list(t.shape[1:])) for t in found.values()]
        free = all(t.shape and not isinstance(t.shape[0], int) for t in found.values())
        if given != wanted or not free:
            raise InputError(
                f"{where}: its tensors {given} do not fit its spec, which has {wanted}"
            )


def _not_ours(where: str) -> InputError:
    return InputError(
        f"{where}: not a graph of a bundle: it carries no {METADATA_KEY} metadata. "
        "Export it with vae-export."
    )


def read_graph(path: str | Path) -> bytes:
    """Read a single `.onnx` file and run every check that needs no onnxruntime.

    Raises:
        NotFound: the file does not exist.
        InputError: the file was not written by vae-export, or has harmful content.
        IntegrityError: the bytes have changed since they were written.
    """
    where, raw = _read_source(path)
    _check_bytes(raw, where, checksum=True)
    return bytes(raw)


def _check_bytes(raw: bytes, where: str, *, checksum: bool) -> None:
    whole = not checksum or verify_graph(raw, where)
    if METADATA_KEY not in check_graph(raw, where):
        raise _not_ours(where)
    if not whole:
        raise IntegrityError(
            f"{where}: carries no sha256: truncated, or changed after export. Export it again."
        )


def _read_source(source: Any) -> tuple[str, Any]:
    """Return the graph's name for error messages, and its bytes or its session."""
    if isinstance(source, bytes) or hasattr(source, "get_inputs"):
        return "graph", source
    path = Path(source)
    return str(path), read_bytes(path, "Expected an .onnx file of a bundle.")
