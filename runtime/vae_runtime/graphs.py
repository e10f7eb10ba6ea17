"""One graph as an object: `Encoder` and `Decoder`, from a bundle or from a single `.onnx` file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Labels, as_codes, as_images, as_labels
from .card import METADATA_KEY, Card, parse_card
from .errors import FileError, InputError, NotFound, UsageError
from .images import to_uint8
from .session import Session

CHUNK = 256  # fp32 products fall off above; results do not depend on it


class Graph:
    """What both kinds of graph share: a session, and the card that the file carries.

    Attributes:
        card: family, image shape, latent size, classes, prior.
        device: where it really runs.
    """

    roles: tuple[str, ...] = ()

    def __init__(
        self, source: str | Path | bytes | Any, *, device: str = "auto", threads: int = 1
    ) -> None:
        """Load one graph.

        Args:
            source: path of an `.onnx` file, its bytes, or an existing onnxruntime session.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            threads: of one run.

        Raises:
            NotFound: no such file.
            InputError: not a graph that vae-export wrote, or one of another role.
            DeviceError: CUDA was asked for and is not available.
        """
        where, model = _source(source)
        self._session = Session(model, device=device, threads=threads)
        text = self._session.metadata.get(METADATA_KEY)
        if text is None:
            raise InputError(f"{where}: carries no {METADATA_KEY} metadata. Export it again.")
        self.card, self.role, self.variant = parse_card(text, where)
        if self.role not in self.roles:
            raise InputError(
                f"{where}: the role of this graph is {self.role}, expected {' or '.join(self.roles)}"
            )

    @property
    def device(self) -> str:
        """`cpu` or `cuda:N`."""
        return self._session.device

    @property
    def takes_label(self) -> bool:
        """Whether the graph has a `label` input."""
        return "label" in self._session.inputs

    def close(self) -> None:
        """Give the memory back."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _label(self, label: Labels, n: int) -> NDArray[np.int64]:
        if label is not None and self.card.classes and not self.takes_label:
            raise UsageError(f"this {self.role} takes no label")
        return as_labels(label, n, self.card)

    def _run(
        self, outputs: tuple[str, ...], shapes: dict[str, tuple[int, ...]], **inputs: NDArray[Any]
    ) -> list[NDArray[Any]]:
        """Run in chunks of CHUNK rows into one array an output."""
        n = len(next(iter(inputs.values())))
        if n <= CHUNK:
            return self._session.run(outputs, **inputs)
        whole = [np.empty((n, *shapes[name]), np.float32) for name in outputs]
        for i in range(0, n, CHUNK):
            part = self._session.run(outputs, **{k: v[i : i + CHUNK] for k, v in inputs.items()})
            for target, values in zip(whole, part, strict=True):
                target[i : i + CHUNK] = values
        return whole


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
        """
        finish = _finisher(dtype)
        codes = as_codes(z, self.card.latent_dim)
        inputs: dict[str, NDArray[Any]] = {"z": codes}
        labels = self._label(label, len(codes))
        if self.takes_label:
            inputs["label"] = labels
        return finish(self._run(("image",), {"image": self.card.image.shape}, **inputs)[0])


class Encoder(Graph):
    """Images to codes."""

    roles = ("encoder",)

    def __call__(self, images: ArrayLike, label: Labels = None) -> NDArray[np.float32]:
        """The code of each image, f32[N, D]: `z` of an AE, the mean of a VAE's posterior."""
        return self.posterior(images, label)[0]

    def posterior(
        self, images: ArrayLike, label: Labels = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and log variance of q(z | image), each f32[N, D]; an AE has no variance.

        Args:
            images: see `Autoencoder`.
            label: read where the encoder takes one; None encodes without a label.
        """
        pixels = as_images(images, self.card.image)
        inputs: dict[str, NDArray[Any]] = {"image": pixels}
        labels = as_labels(label, len(pixels), self.card)
        if self.takes_label:
            inputs["label"] = labels
        names = ("z",) if self.card.family == "ae" else ("mu", "log_var")
        shape = (self.card.latent_dim,)
        found = self._run(names, dict.fromkeys(names, shape), **inputs)
        return found[0], (found[1] if len(found) > 1 else None)


def check_same_bundle(graph: Graph, card: Card, where: str) -> None:
    """Refuse a graph that belongs to another bundle.

    Raises:
        InputError: with both ids.
    """
    if graph.card.id != card.id:
        raise InputError(
            f"{where}: belongs to bundle {graph.card.id}, not to {card.id}. Export again."
        )


def _source(source: Any) -> tuple[str, Any]:
    """What to call the graph in errors, and its bytes (or the session itself)."""
    if isinstance(source, bytes) or hasattr(source, "get_inputs"):
        return "graph", source
    path = Path(source)
    try:
        return str(path), path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error


def _finisher(dtype: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    if dtype == "float32":
        return lambda images: images
    if dtype == "uint8":
        return to_uint8
    raise UsageError(f"dtype is {dtype!r}, expected 'float32' or 'uint8'")
