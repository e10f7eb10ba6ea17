"""Samples, reconstructions and traversals as PNG, with the runtime's own grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vae_runtime import latents as latent
from vae_runtime.images import encode_image, grid, interleave

from .figures import Figures
from .network import Network
from .pca import flat
from .subject import Subject

COLUMNS = 10
_ROWS = 10
_MAX_ROWS = 16  # classes, or dimensions, that are shown
_STEPS = 11
_SPAN = 3.0  # standard deviations either way
_CELL = 56  # pixels: smaller images are enlarged up to this


def samples(subject: Subject, network: Network) -> tuple[bytes, str]:
    """A grid drawn from the fitted prior, one row a class for a CVAE, and its caption."""
    model, prior = subject.checkpoint.model, subject.checkpoint.prior
    rows = min(model.classes, _MAX_ROWS) if model.family == "cvae" else _ROWS
    labels = np.arange(rows).repeat(COLUMNS) if model.family == "cvae" else None
    z = prior.sample(rows * COLUMNS, labels, seed=subject.checkpoint.train.seed)
    caption = f"{rows * COLUMNS} draws from the fitted prior ({prior.kind})"
    if labels is not None:
        names = ", ".join(subject.checkpoint.classes[:rows])
        more = f", the first {rows} of {model.classes}" if rows < model.classes else ""
        caption += f", one row a class{more}: {names}"
    return _sheet(network.decode(z, labels), COLUMNS), caption + "."


def reconstructions(subject: Subject, network: Network) -> tuple[bytes, str]:
    """Held-out images above, what the model makes of them below."""
    n = 3 * COLUMNS
    images = subject.held_out.images[:n]
    labels = None if subject.labels is None else subject.labels[:n]
    again = network.decode(network.encode(images, labels).mu, labels)
    layers, columns = interleave([flat(images).reshape(again.shape), again], COLUMNS)
    caption = f"{subject.part.capitalize()} images above, their reconstructions below, row by row."
    return _sheet(layers, columns), caption


def traversals(subject: Subject, network: Network, figures: Figures) -> tuple[bytes, str]:
    """One row a dimension, the busiest first: one image's code with that dimension varied."""
    order = np.argsort(figures.variance if figures.kl is None else figures.kl)[::-1][:_MAX_ROWS]
    label = None if subject.labels is None else subject.labels[:1]
    start = network.encode(subject.held_out.images[:1], label).mu[0]
    spread = subject.checkpoint.prior.spread(None if label is None else int(label[0]))
    paths = [latent.traversal(start, int(dim), _STEPS, _SPAN, *spread) for dim in order]
    z = np.concatenate(paths)
    sheet = _sheet(network.decode(z, None if label is None else label.repeat(len(z))), _STEPS)
    which = "All dimensions" if len(order) == figures.latent_dim else f"The {len(order)} busiest"
    caption = (
        f"{which} of one {subject.part} image's code, each varied by {_SPAN:g} standard deviations "
        f"either way. From the top: {', '.join(map(str, order))}."
    )
    return sheet, caption


def _sheet(images: NDArray[np.float32], columns: int) -> bytes:
    """A grid as a PNG; images smaller than a thumbnail are enlarged by a whole factor."""
    return encode_image(grid(images, columns), scale=max(1, _CELL // max(images.shape[2:])))
