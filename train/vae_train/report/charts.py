"""Curves and bars as PNG, drawn with matplotlib for a light or a dark page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import Figures
from .measure import active
from .subject import Subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The colours of vae_runtime.html: ink, soft, line, bar, limit, page.
_LIGHT = ("#1a1a1a", "#666666", "#dddddd", "#2563a8", "#b3261e", "#ffffff")
_DARK = ("#eeeeee", "#aaaaaa", "#444444", "#7db3f0", "#ff8a80", "#161616")
_WIDTH = 5.0  # inches of 72 points: at this width text is still read on a phone
_MAX_NAMED = 24  # bars that get a number below


def losses(subject: Subject, *, dark: bool = False) -> bytes:
    """Loss, and for a VAE its two terms, over the epochs; training and validation."""
    from matplotlib.ticker import MaxNLocator

    names = ["loss", "reconstruction", "kl"]
    names = names[:1] if subject.checkpoint.model.family == "ae" else names
    figure, colours = _figure(0.5 + 1.6 * len(names), dark)
    epochs = [epoch.epoch for epoch in subject.history]
    mark = "o" if len(epochs) < 12 else ""
    for row, name in enumerate(names, 1):
        axes = figure.add_subplot(len(names), 1, row)
        _style(axes, colours)
        for part, prefix, colour, dashes in (
            ("training", "", colours[3], "-"),
            ("validation", "validation_", colours[4], "--"),
        ):
            values = [getattr(epoch, prefix + name) for epoch in subject.history]
            if None not in values:
                axes.plot(epochs, values, dashes, color=colour, marker=mark, ms=3, label=part)
        axes.set_ylabel("KL" if name == "kl" else name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.9, epochs[-1] + 0.1)  # the first epoch is 1
        if row == 1 and len(axes.lines) > 1:
            axes.legend(frameon=False, labelcolor=colours[0])
    figure.axes[-1].set_xlabel("epoch")
    return _png(figure)


def units(subject: Subject, figures: Figures, *, dark: bool = False) -> bytes:
    """A bar a dimension, the busiest first: its KL, or for an AE its variance; idle ones in red."""
    figure, colours = _figure(2.4, dark)
    axes = figure.add_subplot()
    _style(axes, colours)
    heights = np.array(figures.variance if figures.kl is None else figures.kl)
    alive = active(np.array(figures.variance), subject.checkpoint.model.family)
    order = np.argsort(heights)[::-1]
    places = np.arange(len(order))
    axes.bar(places, heights[order], color=[colours[3] if alive[k] else colours[4] for k in order])
    axes.set_ylabel("variance" if figures.kl is None else "KL, nats")
    axes.set_xlabel("latent dimension")
    axes.set_xlim(-0.6, len(order) - 0.4)
    if len(order) <= _MAX_NAMED:
        axes.set_xticks(places, [str(k) for k in order])
        for text, k in zip(axes.get_xticklabels(), order, strict=True):
            text.set_color(colours[1] if alive[k] else colours[4])
    return _png(figure)


def _figure(height: float, dark: bool) -> tuple[Figure, tuple[str, ...]]:
    from matplotlib.figure import Figure as New

    colours = _DARK if dark else _LIGHT
    return New(figsize=(_WIDTH, height), facecolor=colours[5], layout="constrained"), colours


def _style(axes: Axes, colours: tuple[str, ...]) -> None:
    ink, soft, line, _, _, page = colours
    axes.set_facecolor(page)
    axes.grid(axis="y", color=line, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=soft, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(ink)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    facts: dict[str, Any] = {"Software": None}  # the same run gives the same bytes
    figure.savefig(buffer, format="png", dpi=160, metadata=facts)
    return buffer.getvalue()
