"""The pictures of a report: curves and bars from matplotlib, image grids from the runtime."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.grids import interleave, tile
from vae_runtime.images import encode_image
from vae_runtime.latents import traversal

from .measure import Measurements, flatten
from .trained_model import TrainedModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 5.0  # inches at 72 points each; keeps text readable on a phone
_MAX_NAMED_BARS = 24
_COLUMNS = 10
_ROWS = 10
_MAX_ROWS = 16  # classes or dimensions shown
_STEPS = 11  # per traversal
_SPAN = 3.0  # standard deviations in each direction
_THUMBNAIL = 56  # pixels; smaller images are enlarged to about this size


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Attributes:
        name: the file name, without `.png`.
        heading: the title on the page.
        caption: what the picture shows.
        png: the bytes of the file.
        dark: the bytes for a dark page, if they differ.
    """

    name: str
    heading: str
    caption: str
    png: bytes
    dark: bytes | None = None


@dataclass(frozen=True)
class _Colors:
    """The colors of `vae_runtime.html`, for a light or a dark page."""

    text: str
    soft_text: str
    grid: str
    main: str
    accent: str
    background: str


_LIGHT = _Colors("#1a1a1a", "#666666", "#dddddd", "#2563a8", "#b3261e", "#ffffff")
_DARK = _Colors("#eeeeee", "#aaaaaa", "#444444", "#7db3f0", "#ff8a80", "#161616")


def draw_pictures(trained: TrainedModel, measured: Measurements) -> list[Picture]:
    """Draw all pictures of a report."""
    bars = "Variance per latent dimension" if measured.kl is None else "KL per latent dimension"
    return [
        Picture("losses", "Loss curves", "Mean losses per epoch.",
                draw_losses(trained, _LIGHT), draw_losses(trained, _DARK)),
        draw_samples(trained),
        draw_reconstructions(trained),
        draw_traversals(trained, measured),
        Picture("units", bars, "Largest first; inactive dimensions are red.",
                draw_units(trained, measured, _LIGHT), draw_units(trained, measured, _DARK)),
    ]  # fmt: skip


def draw_losses(trained: TrainedModel, colors: _Colors) -> bytes:
    """Plot the loss, and for a VAE its two terms, over the epochs."""
    from matplotlib.ticker import MaxNLocator

    names = ["loss", "reconstruction", "kl"]
    names = names[:1] if trained.checkpoint.model.family == "ae" else names
    figure = _new_figure(0.5 + 1.6 * len(names), colors)
    epochs = [epoch.epoch for epoch in trained.history]
    marker = "o" if len(epochs) < 12 else ""
    for row, name in enumerate(names, 1):
        axes = figure.add_subplot(len(names), 1, row)
        _style(axes, colors)
        for split, prefix, color, line in (
            ("training", "", colors.main, "-"),
            ("validation", "validation_", colors.accent, "--"),
        ):
            values = [getattr(epoch, prefix + name) for epoch in trained.history]
            if None not in values:
                axes.plot(epochs, values, line, color=color, marker=marker, ms=3, label=split)
        axes.set_ylabel("KL" if name == "kl" else name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.9, epochs[-1] + 0.1)  # epochs are counted from 1
        if row == 1 and len(axes.lines) > 1:
            axes.legend(frameon=False, labelcolor=colors.text)
    figure.axes[-1].set_xlabel("epoch")
    return _to_png(figure)


def draw_units(trained: TrainedModel, measured: Measurements, colors: _Colors) -> bytes:
    """Plot the KL of each dimension (for an AE, its variance) in descending order."""
    figure = _new_figure(2.4, colors)
    axes = figure.add_subplot()
    _style(axes, colors)
    heights = np.array(measured.variance if measured.kl is None else measured.kl)
    active = measured.active
    order = _most_used(measured)
    positions = np.arange(len(order))
    bar_colors = [colors.main if active[k] else colors.accent for k in order]
    axes.bar(positions, heights[order], color=bar_colors)
    axes.set_ylabel("variance" if measured.kl is None else "KL, nats")
    axes.set_xlabel("latent dimension")
    axes.set_xlim(-0.6, len(order) - 0.4)
    if len(order) <= _MAX_NAMED_BARS:
        axes.set_xticks(positions, [str(k) for k in order])
        for text, k in zip(axes.get_xticklabels(), order, strict=True):
            text.set_color(colors.soft_text if active[k] else colors.accent)
    return _to_png(figure)


def draw_samples(trained: TrainedModel) -> Picture:
    """Draw samples from the fitted prior, with one row per class for a CVAE."""
    checkpoint = trained.checkpoint
    model, prior = checkpoint.model, checkpoint.prior
    conditional = model.family == "cvae"
    rows = min(model.classes, _MAX_ROWS) if conditional else _ROWS
    labels = np.arange(rows).repeat(_COLUMNS) if conditional else None
    z = prior.sample(rows * _COLUMNS, labels, seed=checkpoint.train.seed)
    caption = f"{rows * _COLUMNS} samples from the fitted prior ({prior.kind})"
    if conditional:
        names = ", ".join(checkpoint.classes[:rows])
        more = f", the first {rows} of {model.classes}" if rows < model.classes else ""
        caption += f", one row per class{more}: {names}"
    return Picture("samples", "Samples", f"{caption}.", _to_png_grid(trained.decode(z, labels)))


def draw_reconstructions(trained: TrainedModel) -> Picture:
    """Draw held-out images above their reconstructions."""
    n = 3 * _COLUMNS
    images = trained.held_out.images[:n]
    labels = None if trained.labels is None else trained.labels[:n]
    decoded = trained.decode(trained.encode(images, labels).mu, labels)
    layers, columns = interleave([flatten(images).reshape(decoded.shape), decoded], _COLUMNS)
    caption = f"In pairs of rows: {trained.split} images above, their reconstructions below."
    return Picture("reconstructions", "Reconstructions", caption, _to_png_grid(layers, columns))


def draw_traversals(trained: TrainedModel, measured: Measurements) -> Picture:
    """Vary the latents of one image, one dimension at a time, with one row per dimension."""
    prior = trained.checkpoint.prior
    order = _most_used(measured)[:_MAX_ROWS]
    if prior.directions is not None:
        order = np.arange(min(prior.coordinates, _MAX_ROWS))  # the largest variance first
    label = None if trained.labels is None else trained.labels[:1]
    start = trained.encode(trained.held_out.images[:1], label).mu[0]
    row = None if label is None else int(label[0])
    paths = [traversal(prior, start, int(dim), _STEPS, _SPAN, row) for dim in order]
    z = np.concatenate(paths)
    decoded = trained.decode(z, None if label is None else label.repeat(len(z)))
    which = "latent dimension"
    if len(order) < measured.latent_dim:
        which = f"of the {len(order)} most used latent dimensions"
    caption = (
        f"Each row varies one {which} of the same {trained.split} image by up to {_SPAN:g} "
        "standard deviations in each direction. Dimensions from the top: "
        f"{', '.join(map(str, order))}."
    )
    return Picture("traversals", "Traversals", caption, _to_png_grid(decoded, _STEPS))


def _most_used(measured: Measurements) -> NDArray[np.intp]:
    """Sort the latent dimensions by KL (for an AE, by variance) in descending order."""
    return np.argsort(measured.variance if measured.kl is None else measured.kl)[::-1]


def _to_png_grid(images: NDArray[np.float32], columns: int = _COLUMNS) -> bytes:
    """Encode a grid of images as PNG; enlarge small images by an integer factor."""
    return encode_image(tile(images, columns), scale=max(1, _THUMBNAIL // max(images.shape[2:])))


def _new_figure(height: float, colors: _Colors) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_WIDTH, height), facecolor=colors.background, layout="constrained")


def _style(axes: Axes, colors: _Colors) -> None:
    axes.set_facecolor(colors.background)
    axes.grid(axis="y", color=colors.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colors.soft_text, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(colors.text)


def _to_png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {
        "Software": None
    }  # without the version, so that the same run gives the same bytes
    figure.savefig(buffer, format="png", dpi=160, metadata=metadata)
    return buffer.getvalue()
