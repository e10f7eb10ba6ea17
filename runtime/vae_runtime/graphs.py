"""One graph as an object: `Encoder` and `Decoder`, from a bundle or from a single `.onnx` file."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .arrays import Labels, as_labels, as_latents, check_images, to_float32
from .bundle.checksums import verify_graph
from .bundle.spec import METADATA_KEY, ROLES, ModelSpec, expected_tensors, parse_spec, same_id
from .errors import InputError, IntegrityError, UsageError
from .files.reading import read_bytes
from .graph_checks import check_graph
from .inference.batching import Wanted, rows_per_batch, run_batched
from .inference.session import Session

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .bundle.spec import GraphSpec
    from .inference.batching import Prepare

DTYPES = ("float32", "uint8")
_ORT = {"float32": "tensor(float)", "int64": "tensor(int64)", "uint8": "tensor(uint8)"}


class Graph:
    """What both kinds of graph share: a session, and the spec that the file carries.

    Safe to share between threads. Any number of rows may be passed: they run in chunks, and the
    result is bit for bit the same whatever the chunks and the number of threads.

    Attributes:
        spec: family, image shape, latent size, classes, prior.
        role: `encoder`, `decoder` or `conditional_decoder`.
        variant: precision or output type, `fp32` as exported.
        session: what runs it.
        takes_label: whether it has a `label` input.
    """

    roles: tuple[str, ...] = ROLES

    def __init__(
        self,
        source: str | Path | bytes | Any,
        *,
        device: str = "auto",
        threads: int = 1,
        tf32: bool = False,
        known: tuple[ModelSpec, GraphSpec] | None = None,
    ) -> None:
        """Load one graph.

        Args:
            source: path of an `.onnx` file, its bytes, or an existing onnxruntime session.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            threads: of one run.
            tf32: lets CUDA round to ten bits of mantissa: faster, not the same pixels.
            known: the spec and the list entry of the bundle that the graph was read from.

        Raises:
            NotFound: no such file.
            InputError: not a graph that vae-export wrote, one of another role, or one that holds
                what could harm; found before onnxruntime sees it.
            IntegrityError: its bytes are not those that were written.
            DeviceError: CUDA was asked for and is not available.
        """
        where, model = _source(source)
        if isinstance(model, bytes):
            _check_bytes(model, where, sealed=known is None)  # else the manifest vouches for them
        self.session = Session(model, device=device, threads=threads, tf32=tf32)
        text = self.session.metadata.get(METADATA_KEY)
        if text is None:
            raise _stranger(where)
        if known is not None and same_id(text, known[0]):
            self.spec, self.role, self.variant = known[0], known[1].role, known[1].variant
        else:
            self.spec, self.role, self.variant = parse_spec(text, where)
        if self.role not in self.roles:
            expected = " or ".join(self.roles)
            raise InputError(f"{where}: the role of this graph is {self.role}, expected {expected}")
        check_tensors(self.session, self.spec, self.role, self.variant, where)
        self.takes_label = "label" in self.session.inputs
        self._at_once = rows_per_batch(prod(self.spec.image.shape))
        self._wanted: dict[str, Wanted] = {}

    @property
    def device(self) -> str:
        """Where it really runs: `cpu` or `cuda:N`."""
        return self.session.device

    def tensors(self) -> dict[str, list[dict[str, Any]]]:
        """Name, dtype and shape of the graph's `inputs` and `outputs`."""
        sides = {"inputs": self.session.inputs, "outputs": self.session.outputs}
        return {
            side: [
                {"name": t.name, "dtype": t.type[7:-1], "shape": t.shape} for t in found.values()
            ]
            for side, found in sides.items()
        }

    def close(self) -> None:
        """Give the memory back; the graph cannot be used afterwards."""
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self,
        inputs: dict[str, NDArray[Any]],
        label: Labels,
        wanted: Wanted,
        prepare: dict[str, Prepare] | None = None,
    ) -> list[NDArray[Any]]:
        """Run; with the label where the graph takes one. A wrong label is refused anyway."""
        (rows,) = inputs.values()
        labels = as_labels(label, len(rows), self.spec)
        if self.takes_label:
            inputs["label"] = labels
        return run_batched(self.session, inputs, wanted, self._at_once, prepare)


class Decoder(Graph):
    """Codes to images; with a label where the graph is a conditional decoder."""

    roles = ("decoder", "conditional_decoder")

    def __call__(
        self, z: ArrayLike, label: Labels = None, *, dtype: str = "float32"
    ) -> NDArray[Any]:
        """Decode.

        Args:
            z: f32[N, D] or f32[D].
            label: class index or name, or N of them; None decodes without a label.
            dtype: `float32` in [0, 1], or `uint8`, 0 to 255.

        Returns:
            [N, C, H, W].

        Raises:
            InputError: latents of another dtype, byte order or shape, or not finite; a label out of
                range.
            UsageError: a label for a graph that takes none; an unknown class or dtype.
        """
        latents = as_latents(z, self.spec.latent_dim)
        if label is not None and not self.takes_label:
            raise UsageError(f"this {self.spec.family} {self.role} takes no label")
        wanted = self._wanted.get(dtype) or self._to_give(dtype)
        return self._run({"z": latents}, label, wanted)[0]

    def _to_give(self, dtype: str) -> Wanted:
        """What `run_batched` is asked for, kept for the next call."""
        if check_dtype(dtype) != "uint8" and self.variant == "uint8":
            raise UsageError("this decoder gives bytes only. Pass dtype='uint8'.")
        wanted = Wanted(["image"], [self.spec.image.shape], [np.dtype(dtype)])
        self._wanted[dtype] = wanted
        return wanted


class Encoder(Graph):
    """Images to latents."""

    roles = ("encoder",)

    def __call__(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """The code of each image, f32[N, D]: `z` of an AE, the mean of a VAE's posterior."""
        return self.posterior(images, label)[0]

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and log variance of q(z | image), each f32[N, D]; an AE has no variance.

        Args:
            images: u8, or f32 in [0, 1], in any layout that `Autoencoder` takes.
            label: read where the encoder takes one; None encodes without a label.
        """
        pixels = check_images(images, self.spec.image)
        names = ["z"] if self.spec.family == "ae" else ["mu", "log_var"]
        count = len(names)
        wanted = Wanted(names, [(self.spec.latent_dim,)] * count, [np.dtype(np.float32)] * count)
        mu, *log_var = self._run({"image": pixels}, label, wanted, {"image": to_float32})
        return mu, log_var[0] if log_var else None


def check_dtype(dtype: str) -> str:
    """`float32` or `uint8`, as it came.

    Raises:
        UsageError: anything else.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype is {dtype!r}, expected 'float32' or 'uint8'")
    return dtype


def check_same_bundle(graph: Graph, spec: ModelSpec, where: str) -> None:
    """Refuse a graph that belongs to another bundle.

    Raises:
        InputError: with both ids.
    """
    if graph.spec.id != spec.id:
        raise InputError(
            f"{where}: belongs to bundle {graph.spec.id}, expected {spec.id}. Export again."
        )


def check_tensors(session: Session, spec: ModelSpec, role: str, variant: str, where: str) -> None:
    """Refuse a graph whose inputs and outputs, as onnxruntime finds them, its spec does not fit.

    Raises:
        InputError: with the first tensor that differs.
    """
    labelled = role == "conditional_decoder" or (role == "encoder" and "label" in session.inputs)
    expected = expected_tensors(spec, role, variant, labelled=labelled)
    for side, found in zip(expected, (session.inputs, session.outputs), strict=True):
        wanted = [(t.name, _ORT[t.dtype], list(t.shape[1:])) for t in side]
        given = [(t.name, t.type, list(t.shape[1:])) for t in found.values()]
        free = all(t.shape and not isinstance(t.shape[0], int) for t in found.values())
        if given != wanted or not free:
            raise InputError(
                f"{where}: its tensors {given} do not fit its spec, which says {wanted}"
            )


def _stranger(where: str) -> InputError:
    return InputError(
        f"{where}: not a graph of a bundle: it carries no {METADATA_KEY} metadata. "
        "Export it with vae-export."
    )


def read_graph(path: str | Path) -> bytes:
    """The bytes of a lone `.onnx` file, after every check that needs no onnxruntime.

    Raises:
        NotFound: no such file.
        InputError: not a graph that vae-export wrote, or one that holds what could harm.
        IntegrityError: its bytes are not those that were written.
    """
    where, raw = _source(path)
    _check_bytes(raw, where, sealed=True)
    return bytes(raw)


def _check_bytes(raw: bytes, where: str, *, sealed: bool) -> None:
    whole = not sealed or verify_graph(raw, where)
    if METADATA_KEY not in check_graph(raw, where):
        raise _stranger(where)
    if not whole:
        raise IntegrityError(
            f"{where}: carries no sha256: truncated, or changed after export. Export it again."
        )


def _source(source: Any) -> tuple[str, Any]:
    """What to call the graph in errors, and its bytes (or the session itself)."""
    if isinstance(source, bytes) or hasattr(source, "get_inputs"):
        return "graph", source
    path = Path(source)
    return str(path), read_bytes(path, "Expected an .onnx file of a bundle.")
