"""Build self-contained HTML reports, with light and dark themes and a print style."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .bundle.spec import ModelSpec

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #666; --line: #ddd; --bar: #2563a8;
  --limit: #b3261e; --background: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --soft: #aaa; --line: #444;
  --bar: #7db3f0; --limit: #ff8a80; --background: #161616; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--background);
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); }
@media print { figure, tr, aside { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def html_document(title: str, parts: Iterable[str], style: str = "") -> str:
    """Build a complete HTML document.

    Args:
        title: plain text for the title bar and the heading.
        parts: HTML below the heading.
        style: CSS in addition to `STYLE`.
    """
    head = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
    )
    return "\n".join([*head, *parts, "</main></body></html>", ""])


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Build a table from plain-text cells; it scrolls sideways if it is too wide."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    table = f"<table><thead>{line(head, 'th')}</thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def data_uri(png: bytes) -> str:
    """Encode a PNG as a data URI."""
    return f"data:image/png;base64,{b64encode(png).decode()}"


def model_html(name: str, spec: ModelSpec, images: NDArray[Any] | None) -> str:
    """Describe a model for a notebook: a strip of samples [N, C, H, W], if any, and its facts."""
    parts = [f"<b>{escape(name)}</b>: {escape(spec.summary)}, prior {escape(spec.prior.kind)}"]
    if images is not None:
        from .grids import grid_scale, tile
        from .images import encode_image

        strip = encode_image(tile(images, len(images)), scale=grid_scale(images.shape, len(images)))
        parts.append(f'<img alt="samples" style="max-width: 100%" src="{data_uri(strip)}">')
    else:
        parts.append("This model was closed.")
    return "<div>" + "<br>".join(parts) + "</div>"


def columns_html(columns: dict[str, NDArray[Any]], rows: int = 10) -> str:
    """Describe arrays of equal length for a notebook: their means and their first rows."""
    n = len(next(iter(columns.values())))
    means = [f"{values.mean():.6g}" if n else "" for values in columns.values()]
    table = [
        [str(i), *(f"{values[i]:.6g}" for values in columns.values())] for i in range(min(n, rows))
    ]
    if n > rows:
        table.append(["…"] * (len(columns) + 1))
    return html_table(["image", *columns], [["mean", *means], *table])
