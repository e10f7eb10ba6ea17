"""Bring your own model: any `nn.Module` with `encode` and `decode`, or two modules, to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.datasets import Dataset
from vae_runtime.errors import UsageError, VaeError
from vae_runtime.prior import Prior
from vae_train.prior import fit_latents

from .calling_convention import ACTIVATIONS, SPREADS, ForeignDecoder, ForeignEncoder
from .graphs import Graph
from .inputs import ROWS
from .pipeline import Exported, Options, export_source
from .probe import Modules, find_form, latent_shape
from .source import Source, as_float, labels_of
from .trace import OPSET

_MOST = 20_000  # images that the prior is fitted to
_CHUNK = 256
_SLACK = 1e-4  # what an image may lie outside [0, 1]


@dataclass(frozen=True)
class Foreign:
    """What cannot be read off a stranger's modules.

    Attributes:
        name: in the manifest; by default the class's name.
        classes: class names, where the decoder takes a label.
        one_hot: whether it takes labels as f32[N, K], not as indices.
        null_label: the index that means "no label" to it; by default K if it takes that, else the
            module's only embedding of K rows gets their mean as one more.
        spread: what the second tensor of a pair is: `log_var`, `var`, `std` or `log_std`.
        activation: what makes its output an image in [0, 1]: `none`, `sigmoid`, `tanh` or `clip`.
        signed: whether its encoder wants pixels in [-1, 1].
        likelihood: `bernoulli` or `gaussian`, how `score` reads a reconstruction error.
        prior: `auto` or one of `vae_runtime.prior.KINDS`, fitted to the latents of the data.
        seed: of that fit.
    """

    name: str = ""
    classes: tuple[str, ...] = ()
    one_hot: bool = False
    null_label: int | None = None
    spread: str = "log_var"
    activation: str = "none"
    signed: bool = False
    likelihood: str = "bernoulli"
    prior: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("spread", SPREADS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}"
                )


def export(
    module: Modules,
    out: Path | str | None,
    data: Dataset,
    *,
    opset: int = OPSET,
    variants: Sequence[str] = (),
    allow_lossy: bool = False,
    say: Callable[[str], None] = lambda line: None,
    sha256: str = "",
    **options: Any,
) -> Exported:
    """Export a module of your own.

    Args:
        module: with methods `encode` and `decode` or attributes `encoder` and `decoder`; or a pair
            of modules. It is copied, and the copy put in evaluation mode.
        out: a folder or `.zip`; None writes nothing.
        data: its training images, which the prior is fitted to and the gate runs.
        opset: see `vae_export.pipeline.Options`.
        variants: likewise.
        allow_lossy: likewise.
        say: likewise.
        sha256: of the weights' file, for the manifest.
        options: the fields of `Foreign`.

    Example:
        ``export(model, "bundle", load_dataset("photos/"), activation="sigmoid")``

    Raises:
        UsageError: an option is wrong, or the module does not fit the data.
        InputError: the module cannot be traced, or is random.
        IntegrityError: a graph differs from the module.
        FileError: `out` cannot be written.
    """
    chosen = Options(opset, variants, allow_lossy, say)
    source = from_module(module, data, Foreign(**options), sha256)
    return export_source(source, None if out is None else Path(out), chosen)


@torch.no_grad()
def from_module(module: Modules, data: Dataset, facts: Foreign, sha256: str = "") -> Source:
    """Look at what a module returns, fit its prior, wrap it for tracing."""
    if facts.classes and (data.labels is None or len(data.classes) != len(facts.classes)):
        raise UsageError(
            f"{data.name}: {len(data.classes)} classes, the module has {len(facts.classes)}"
        )
    form = find_form(module, facts)
    encoder = ForeignEncoder(form).eval()
    images = torch.from_numpy(as_float(data.images[:_MOST]))
    given = None if data.labels is None else torch.from_numpy(data.labels[:_MOST])
    with _theirs("encode", data):
        latents = _latents(encoder, images, given if form.labelled_encoder else None)
        shape = latent_shape(form, images[:2])
    decoder = ForeignDecoder(form, shape).eval()
    mean = latents[0] if isinstance(latents, tuple) else latents
    _check_images(decoder, mean[:_CHUNK], data)
    kind = ("class_gmm" if facts.classes else "gmm") if facts.prior == "auto" else facts.prior
    z = _draw(latents, facts.seed)
    prior = fit_latents(_groups(kind, encoder, z, images, data, facts), kind, seed=facts.seed).prior
    spec = _spec(facts, data, prior, plain=not isinstance(latents, tuple))
    graphs = _graphs(encoder, decoder, spec)
    name = facts.name or type(module[0] if isinstance(module, tuple) else module).__name__
    training = {"model": name, "data": {"name": data.name, "training": len(data)}}
    return Source(
        spec, graphs, as_float(data.images[:ROWS]), labels_of(data, data.classes), training, sha256
    )


@contextmanager
def _theirs(method: str, data: Dataset) -> Iterator[None]:
    """Whatever a stranger's code raises is an answer to the data, not a bug of ours."""
    try:
        yield
    except (VaeError, MemoryError):
        raise
    except Exception as error:
        raise UsageError(
            f"{method} failed on {data.name}, up to {_CHUNK} images of {data.image_shape}: "
            f"{error}. Is it what the module was trained on?"
        ) from error


def _graphs(encoder: ForeignEncoder, decoder: ForeignDecoder, spec: ModelSpec) -> list[Graph]:
    """In the order of the bundle; one module decodes with a label and without."""
    images = ("image", "label") if encoder.labels is not None else ("image",)
    latents = ("z",) if spec.family == "ae" else ("mu", "log_var")
    graphs = [
        Graph("encoder", encoder, images, latents),
        Graph("decoder", decoder, ("z",), ("image",)),
    ]
    if spec.classes:
        graphs.append(Graph("conditional_decoder", decoder, ("z", "label"), ("image",)))
    for graph in graphs:
        graph.module.requires_grad_(False)
    return graphs


def _spec(facts: Foreign, data: Dataset, prior: Prior, *, plain: bool) -> ModelSpec:
    family = "cvae" if facts.classes else ("ae" if plain else "vae")
    image = ImageSpec(*data.image_shape)
    return ModelSpec("", family, image, prior.latent_dim, facts.classes, facts.likelihood, prior)


def _latents(encoder: nn.Module, images: Tensor, labels: Tensor | None) -> Any:
    """z, or mu and log_var, of all images."""
    parts = []
    for start in range(0, len(images), _CHUNK):
        rows = slice(start, start + _CHUNK)
        parts.append(
            encoder(images[rows]) if labels is None else encoder(images[rows], labels[rows])
        )
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _draw(latents: Any, seed: int) -> NDArray[np.float64]:
    """One posterior draw for each image, f64[N, D]; of a plain code, the code."""
    if isinstance(latents, Tensor):
        return latents.double().numpy()
    mu, log_var = (part.double() for part in latents)
    eps = torch.empty_like(mu).normal_(generator=torch.Generator().manual_seed(seed))
    drawn: NDArray[np.float64] = (mu + (0.5 * log_var).exp() * eps).numpy()
    return drawn


def _groups(
    kind: str,
    encoder: ForeignEncoder,
    z: NDArray[np.float64],
    images: Tensor,
    data: Dataset,
    facts: Foreign,
) -> list[NDArray[np.float64]]:
    """The latents that each mixture is fitted to."""
    if kind != "class_gmm":
        return [z]
    if not facts.classes or data.labels is None:
        raise UsageError("prior class_gmm needs classes. Use gmm.")
    label = data.labels[:_MOST]
    groups = [z[label == k] if (label == k).any() else z for k in range(len(facts.classes))]
    if encoder.labels is None:
        return [*groups, z]
    none = torch.full((len(images),), len(facts.classes))
    return [*groups, _draw(_latents(encoder, images, none), facts.seed)]


def _check_images(decoder: nn.Module, z: Tensor, data: Dataset) -> None:
    """Refuse a decoder whose images have another shape or range than the bundle's."""
    with _theirs("decode", data):
        image = decoder(z)
    if tuple(image.shape[1:]) != data.image_shape:
        raise UsageError(
            f"decode: gives images {tuple(image.shape[1:])}, the data has {data.image_shape}"
        )
    low, high = float(image.min()), float(image.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):
        raise UsageError(
            f"decode: pixels run from {low:.3g} to {high:.3g}, expected [0, 1]. Say activation "
            "(--activation): sigmoid for logits, tanh for [-1, 1], clip to cut off."
        )
