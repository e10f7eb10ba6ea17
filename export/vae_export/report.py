"""Report the measurements of an export: `parity.json` for programs, `parity.html` for people."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vae_runtime.bundle.manifest import Manifest
from vae_runtime.dependencies import require
from vae_runtime.files.atomic import write_atomic
from vae_runtime.html import html_document, html_table

from .parity import BINS_PER_DECADE, DECADES
from .pipeline import Exported
from .precision.variants import VariantResult
from .writer import make_folder

_MIN_DECADE = -12  # the histogram's first bar also counts all smaller errors
# matplotlib draws with these colours, which are then replaced by variables of the page's style
# sheet, so that the histograms follow its dark mode.
_COLOURS = {"#010203": "var(--soft)", "#010204": "var(--bar)", "#010205": "var(--limit)"}
_SOFT, _BAR, _LIMIT = _COLOURS


def write_report(exported: Exported, folder: Path) -> None:
    """Write `parity.json` and `parity.html` into `folder`, which is created if missing.

    Raises:
        MissingExtra: matplotlib is not installed.
        FileError: a file cannot be written.
    """
    require("vae-export --report", "matplotlib")
    make_folder(folder)
    data = json.dumps(_report_data(exported), indent=1, allow_nan=False)
    write_atomic(folder / "parity.json", data.encode())
    write_atomic(folder / "parity.html", _report_html(exported).encode())


def _report_data(exported: Exported) -> dict[str, Any]:
    """Collect the manifest's parity entry, the worst cases, histograms and variants, as JSON."""
    manifest = exported.manifest
    return {
        "bundle": manifest.spec.id,
        "parity": manifest.parity,
        "producer": manifest.producer,
        "outputs": [
            {
                "worst": [asdict(case) for case in result.worst],
                "histogram": {name: bins.tolist() for name, bins in result.histogram.items()},
            }
            for result in exported.parity
        ],
        "variants": [
            asdict(v) | {"psnr": None if np.isinf(v.psnr) else v.psnr} for v in exported.variants
        ],
    }


def _report_html(exported: Exported) -> str:
    """Build an HTML page without scripts or external resources."""
    manifest = exported.manifest
    batches = max(manifest.parity["batches"].values(), key=len)
    parts = [
        f"<p class=soft>{escape(_summary(manifest))}</p>",
        f"<p>Every graph passed. Allowed: {escape(manifest.parity['tolerance'])}, and "
        f"{escape(manifest.parity['typical_tolerance'])}. Batches of "
        f"{', '.join(map(str, batches))}.</p>",
        _worst_table(exported),
    ]
    if exported.variants:
        parts += ["<h2>Variants compared with float32</h2>", _variant_table(exported.variants)]
    parts.append("<h2>Errors of all elements in all batches</h2>")
    for result in exported.parity:
        for case in result.worst:
            name = escape(f"{case.graph}.{case.output}", quote=True)
            svg = _histogram_svg(result.histogram[case.output], case.tolerance)
            svg = svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)
            parts.append(f"<figure><figcaption>{name}</figcaption>{svg}</figure>")
    style = "svg { width: 100%; height: auto; }"
    return html_document(f"Parity of bundle {manifest.spec.id}", parts, style)


def _histogram_svg(counts: NDArray[np.int64], tolerance: float) -> str:
    """Draw a histogram from `ParityResult` as an `<svg>`, with a line at the tolerance.

    Counts are on a log scale. Equal inputs give identical text.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    skip = (_MIN_DECADE - DECADES[0]) * BINS_PER_DECADE
    shown = counts[skip:].copy()
    shown[0] += counts[:skip].sum()
    edges = np.linspace(_MIN_DECADE, DECADES[1], len(shown) + 1)
    bottom = 0.8  # so that a bar of one element is visible on a log scale
    with mpl.rc_context({"svg.hashsalt": "parity", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 1.8))
        axes = figure.add_axes((0.09, 0.14, 0.9, 0.84), yscale="log", xlim=(edges[0], edges[-1]))
        # Disable clipping: clip paths are referenced by url(#id), and the page must not contain
        # url().
        axes.bar(edges[:-1], np.maximum(shown - bottom, 0), 0.92 / BINS_PER_DECADE, bottom,
                 align="edge", color=_BAR, clip_on=False)  # fmt: skip
        axes.axvline(np.log10(tolerance), color=_LIMIT, linestyle="--", clip_on=False)
        axes.text(np.log10(tolerance) + 0.1, 0.9, f"allowed {tolerance:.1e}", color=_LIMIT,
                  transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set_ylim(bottom, max(10, 2 * shown.max()))
        decades = range(_MIN_DECADE, DECADES[1], 2)
        axes.set_xticks(decades, [f"{'≤ ' * (d == _MIN_DECADE)}1e{d}" for d in decades])
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.tick_params(length=0, labelcolor=_SOFT, labelsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(_SOFT)
        buffer = io.StringIO()
        no_metadata: dict[str, Any] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    return text[text.index("<svg ") :]


def _summary(manifest: Manifest) -> str:
    spec = manifest.spec
    c, h, w = spec.image.shape
    versions = ", ".join(f"{name} {version}" for name, version in manifest.producer.items())
    classes = f", {len(spec.classes)} classes" if spec.classes else ""
    return (
        f"{spec.family}, images {c}×{h}×{w}, latent dimension {spec.latent_dim}{classes}. "
        f"{versions}."
    )


def _worst_table(exported: Exported) -> str:
    rows = [
        (
            f"{case.graph}.{case.output}",
            f"{case.error:.2e}",
            f"{case.torch_error:.2e}",
            f"{case.tolerance:.2e}",
            f"{case.typical:.2f}×",
            f"{case.difference:.2e}",
            str(case.batch),
            str(list(case.index)),
            f"{case.value:.7g}",
            f"{case.expected:.9g}",
        )
        for result in exported.parity
        for case in result.worst
    ]
    head = (
        "output", "largest error", "torch float32's error", "allowed", "typical error",
        "difference from torch float32", "worst batch", "index", "onnxruntime", "torch float64",
    )  # fmt: skip
    return html_table(head, rows)


def _variant_table(variants: list[VariantResult]) -> str:
    rows = [
        (
            v.graph,
            f"{v.bytes:,}",
            f"{v.bytes / v.bytes_fp32:.0%}",
            "equal" if np.isinf(v.psnr) else f"{v.psnr:.1f} dB",
            f"{v.differ:.2%}",
            str(v.largest_step),
            f"{v.ms:.3f}",
            f"{v.ms_fp32 / v.ms:.2f}×",
        )
        for v in variants
    ]
    head = (
        "graph", "bytes", "of fp32", "PSNR", "pixels that differ", "largest step",
        f"ms per batch of {variants[0].batch}", "speed",
    )  # fmt: skip
    return html_table(head, rows)
