"""A histogram of errors as inline SVG: a quarter of a decade a bar, counts on a log scale."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from .parity import DECADES

_WIDTH, _HEIGHT, _BOTTOM, _LEFT = 760, 150, 22, 46
_LOWEST = -12  # decade; everything below is drawn in the first bar


def histogram_svg(counts: NDArray[np.int64], tolerance: float, title: str) -> str:
    """Bars over log10 of the error, and a line at the tolerance.

    Args:
        counts: i64, one a quarter of a decade from 10**DECADES[0].
        tolerance: drawn as a dashed line.
        title: read out by screen readers.
    """
    skip = (_LOWEST - DECADES[0]) * 4
    shown = counts[skip:].copy()
    shown[0] += counts[:skip].sum()
    step = (_WIDTH - _LEFT) / len(shown)
    tallest = max(1.0, float(np.log10(1 + shown.max())))
    label = escape(title, quote=True)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    room = _HEIGHT - _BOTTOM - 14
    for i, count in enumerate(shown):
        if not count:
            continue
        height = room * float(np.log10(1 + count)) / tallest
        x, y = _LEFT + i * step, _HEIGHT - _BOTTOM - height
        parts.append(
            f'<rect class="bar" x="{x + 0.5:.1f}" y="{y:.1f}" width="{step - 1:.1f}" '
            f'height="{height:.1f}"><title>{int(count):,} elements</title></rect>'
        )
    parts += _axes(step, tallest, room)
    x = _LEFT + (np.log10(tolerance) - _LOWEST) * 4 * step
    parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT - _BOTTOM}"/>')
    parts.append(
        f'<text class="limit-text" x="{x + 4:.1f}" y="11">allowed {tolerance:.1e}</text></svg>'
    )
    return "".join(parts)


def _axes(step: float, tallest: float, room: float) -> list[str]:
    """Powers of ten below, counts at the left."""
    base = _HEIGHT - _BOTTOM
    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{base}" y2="{base}"/>']
    for decade in range(_LOWEST, DECADES[1], 2):
        x = _LEFT + (decade - _LOWEST) * 4 * step
        text = f"≤ 1e{decade}" if decade == _LOWEST else f"1e{decade}"
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 6}">{text}</text>')
    for power in range(0, int(tallest) + 1, 2):
        y = base - room * power / tallest
        parts.append(f'<text x="0" y="{y + 4:.1f}">{10**power:,}</text>')
    return parts
