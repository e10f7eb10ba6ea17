"""From a checkpoint to a bundle: trace, check, write. Nothing is left behind by a failure."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from vae_runtime import __version__
from vae_runtime.card import Card, ImageSpec
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError
from vae_runtime.manifest import FileSpec, GraphSpec, Manifest, TensorSpec
from vae_runtime.session import onnxruntime
from vae_train import Checkpoint

from .bundle import write_bundle
from .golden import golden_vectors
from .graphs import Graph, graphs_of
from .inputs import gate_inputs
from .parity import Worst, check_parity, summary
from .writer import IR_VERSIONS, OPSET, write_graph

_LIKELIHOOD = {"bce": "bernoulli", "mse": "gaussian"}
_IMAGES = 1000  # real images that the gate runs, where a data set is at hand


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path,
    *,
    data: Dataset | None = None,
    opset: int = OPSET,
    on_graph: Callable[[str, list[Worst]], None] = lambda role, worst: None,
) -> Manifest:
    """Export every graph of a checkpoint, compare each with torch, write the bundle to `out`.

    Args:
        checkpoint: a trained model.
        out: a folder, or a path that ends in `.zip`; a previous bundle there is replaced.
        data: real images for the gate; without it the examples in the checkpoint.
        opset: of `ai.onnx`.
        on_graph: called with the role of each graph and its worst errors once it has passed.

    Returns:
        The manifest that was written.

    Raises:
        IntegrityError: a graph breaks the contract or differs from torch; `out` is untouched.
        FileError: `out` cannot be written, or is something else than a bundle.
    """
    model = checkpoint.build()
    card = _card(checkpoint, opset)
    images, labels = _images(checkpoint, data)
    files: dict[str, bytes] = {}
    specs, inputs, worst = [], {}, []
    graphs = graphs_of(model)
    for graph in graphs:
        rows = gate_inputs(graph, images, labels, checkpoint.prior, checkpoint.model.classes)
        example = {name: torch.from_numpy(values[:2]) for name, values in rows.items()}
        raw = write_graph(graph, example, card, opset)
        found = check_parity(graph, raw, rows)
        on_graph(graph.role, found)
        inputs[graph.role] = rows
        worst += found
        name = f"{graph.role}.onnx"
        files[name] = raw
        specs.append(_graph_spec(graph, raw, name, opset, card))
    files["golden.npz"] = golden_vectors(graphs, inputs)
    manifest = Manifest(
        card,
        tuple(specs),
        _file_spec("golden.npz", files["golden.npz"]),
        training=checkpoint.facts
        | {"recipe": checkpoint.train.to_dict(), "model": checkpoint.model.to_dict()},
        parity=summary(worst),
        producer=_producer(),
        checkpoint_sha256=checkpoint.sha256,
    )
    write_bundle(manifest, files, out)
    return manifest


def _card(checkpoint: Checkpoint, opset: int) -> Card:
    # The id must be known before the graphs are written, because each of them carries it.
    identity = f"{checkpoint.sha256}:{opset}:{__version__}"
    return Card(
        id=hashlib.sha256(identity.encode()).hexdigest()[:16],
        family=checkpoint.model.family,
        image=ImageSpec(*checkpoint.model.image_shape),
        latent_dim=checkpoint.model.latent_dim,
        classes=checkpoint.classes,
        likelihood=_LIKELIHOOD[checkpoint.train.objective],
        prior=checkpoint.prior,
    )


def _images(
    checkpoint: Checkpoint, data: Dataset | None
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Images in [0, 1] and labels for the gate."""
    if data is None:
        labels = checkpoint.example_labels
        pixels = checkpoint.examples.numpy()
        return _scaled(pixels), None if labels is None else labels.numpy()
    if data.image_shape != checkpoint.model.image_shape:
        raise UsageError(
            f"{data.name}: images {data.image_shape}, model {checkpoint.model.image_shape}"
        )
    return _scaled(data.images[:_IMAGES]), None if data.labels is None else data.labels[:_IMAGES]


def _scaled(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels.astype(np.float32) / np.float32(255)


def _file_spec(name: str, raw: bytes) -> FileSpec:
    return FileSpec(name, len(raw), hashlib.sha256(raw).hexdigest())


def _graph_spec(graph: Graph, raw: bytes, name: str, opset: int, card: Card) -> GraphSpec:
    shapes: dict[str, tuple[int | str, ...]] = dict.fromkeys(
        ("z", "mu", "log_var"), ("batch", card.latent_dim)
    )
    shapes |= {"image": ("batch", *card.image.shape), "label": ("batch",)}

    def tensors(names: tuple[str, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(n, "int64" if n == "label" else "float32", shapes[n]) for n in names
        )

    return GraphSpec(
        graph.role,
        "fp32",
        _file_spec(name, raw),
        opset,
        IR_VERSIONS[opset],
        tensors(graph.inputs),
        tensors(graph.outputs),
    )


def _producer() -> dict[str, Any]:
    return {
        "vae-onnx": __version__,
        "torch": str(torch.__version__),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime().__version__,
        "python": platform.python_version(),
    }
