"""What each verb does with the rows of one table: the library's own calls, nothing beside them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .results import lists, numbers, pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..autoencoder import Autoencoder
    from .faults import Faults
    from .mapper import Options

Columns = dict[str, Any]


@dataclass
class Rows:
    """One table's rows as arrays; a bad row is zeros.

    Attributes:
        n: how many.
        labels: i64[n], or None to work without labels.
        images: u8 or f32 [n, C, H, W], for the verbs that read them.
        index: i64[n], each row's number in the whole job, for the verbs that draw.
    """

    n: int
    labels: NDArray[np.int64] | None
    images: NDArray[Any] | None = None
    index: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Work:
    """A verb: how it runs, whether it reads images, whether it draws random numbers."""

    run: Callable[[Autoencoder, Rows, Faults, Options], Columns]
    reads_images: bool = True
    draws: bool = False


def encode(model: Autoencoder, rows: Rows, faults: Faults, options: Options) -> Columns:
    """Codes: `z`, the mean, and of a VAE `log_var`."""
    assert rows.images is not None
    z, log_var = model.posterior(rows.images, rows.labels)
    found = {"z": z} if log_var is None else {"z": z, "log_var": log_var}
    return {name: lists(array, faults, fixed=options.fixed) for name, array in found.items()}


def reconstruct(model: Autoencoder, rows: Rows, faults: Faults, options: Options) -> Columns:
    """Images from the mean latents."""
    assert rows.images is not None
    images = model.reconstruct(rows.images, rows.labels, dtype=_pixels(options))
    return {"image": _images(images, faults, options)}


def score(model: Autoencoder, rows: Rows, faults: Faults, options: Options) -> Columns:
    """Squared error a pixel, KL and negative ELBO in nats."""
    assert rows.images is not None
    found = np.zeros((3, rows.n))
    for part, first in _runs(rows):
        labels = None if rows.labels is None else rows.labels[part]
        draws: dict[str, int] = {"samples": options.samples, "seed": options.seed, "start": first}
        found[:, part] = model.score(rows.images[part], labels, **draws)
    names = ("reconstruction_error", "kl", "negative_elbo")
    return {name: numbers(values, faults) for name, values in zip(names, found, strict=True)}


def sample(model: Autoencoder, rows: Rows, faults: Faults, options: Options) -> Columns:
    """Row i gets image i of the seed."""
    draw = {key: getattr(options, key) for key in ("prior", "temperature", "truncation")}
    z = np.zeros((rows.n, model.spec.latent_dim), np.float32)
    for part, first in _runs(rows):
        labels = None if rows.labels is None else rows.labels[part]
        z[part] = model.sample_latents(
            part.stop - part.start, labels, options.seed, start=first, **draw
        )
    images = model.decode(z, rows.labels, dtype=_pixels(options))
    return {"image": _images(images, faults, options)}


WORK = {
    "encode": Work(encode),
    "reconstruct": Work(reconstruct),
    "score": Work(score, draws=True),
    "sample": Work(sample, reads_images=False, draws=True),
}


def _runs(rows: Rows) -> Iterator[tuple[slice, int]]:
    """Stretches of rows whose numbers follow each other, and the number of each one's first."""
    if rows.index is None:  # nothing is drawn
        yield slice(0, rows.n), 0
        return
    breaks = np.flatnonzero(np.diff(rows.index) != 1) + 1
    edges = [0, *breaks.tolist(), rows.n]
    for start, stop in itertools.pairwise(edges):
        if start < stop:
            yield slice(start, stop), int(rows.index[start])


def _pixels(options: Options) -> str:
    return "uint8" if options.dtype == "png" else options.dtype


def _images(images: NDArray[Any], faults: Faults, options: Options) -> Any:
    if options.dtype == "png":
        return pictures(images, faults)
    return lists(images, faults, fixed=options.fixed)
