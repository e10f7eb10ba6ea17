"""What an export measured, for people and programs: `parity.json` and a page without resources."""

from __future__ import annotations

import json
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from vae_runtime.bundle.manifest import Manifest
from vae_runtime.errors import FileError
from vae_runtime.files.atomic import write_atomic
from vae_runtime.html import html_document, html_table

from .histogram import histogram_svg
from .parity import as_dict
from .pipeline import Exported
from .variants import Measured

_STYLE = """
svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; } svg .bar { fill: var(--bar); }
svg .axis { stroke: var(--line); } svg .limit { stroke: var(--limit); stroke-dasharray: 4 3; }
svg .limit-text { fill: var(--limit); }
"""


def write_report(exported: Exported, folder: Path) -> None:
    """Write `parity.json` and `parity.html` into `folder`, which is made if missing.

    Raises:
        FileError: a file could not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: {error.strerror}") from error
    data = json.dumps(report_data(exported), indent=1, allow_nan=False)
    write_atomic(folder / "parity.json", data.encode())
    write_atomic(folder / "parity.html", report_page(exported).encode())


def report_data(exported: Exported) -> dict[str, Any]:
    """Plain values: the manifest's parity, each worst case, the histograms, the variants."""
    manifest = exported.manifest
    return {
        "bundle": manifest.spec.id,
        "parity": manifest.parity,
        "producer": manifest.producer,
        "outputs": [as_dict(checked) for checked in exported.checked],
        "variants": [
            asdict(m) | {"psnr": None if np.isinf(m.psnr) else m.psnr} for m in exported.measured
        ],
    }


def report_page(exported: Exported) -> str:
    """One HTML page with everything inline."""
    manifest = exported.manifest
    title = f"Parity of bundle {manifest.spec.id}"
    parts = [
        f"<p class=soft>{escape(_about(manifest))}</p>",
        f"<p>Every graph passed. {escape(_rule(manifest))}</p>",
        _worst_table(exported),
    ]
    if exported.measured:
        parts += ["<h2>Variants against float32</h2>", _variant_table(exported.measured)]
    parts.append("<h2>Errors of all elements, in all batches</h2>")
    for checked in exported.checked:
        for case in checked.worst:
            caption = f"{case.graph}.{case.output}"
            svg = histogram_svg(checked.histogram[case.output], case.tolerance, caption)
            parts.append(f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>")
    return html_document(title, parts, _STYLE)


def _about(manifest: Manifest) -> str:
    spec = manifest.spec
    c, h, w = spec.image.shape
    versions = ", ".join(f"{name} {version}" for name, version in manifest.producer.items())
    classes = f", {len(spec.classes)} classes" if spec.classes else ""
    return f"{spec.family}, images {c} by {h} by {w}, latents of {spec.latent_dim}{classes}. {versions}."


def _rule(manifest: Manifest) -> str:
    batches = ", ".join(str(n) for n in manifest.parity["batches"])
    return f"Allowed: {manifest.parity['tolerance']}. Batches of {batches}."


def _worst_table(exported: Exported) -> str:
    rows = [
        (
            f"{case.graph}.{case.output}",
            f"{case.largest:.2e}",
            f"{case.torch_error:.2e}",
            f"{case.tolerance:.2e}",
            f"{case.difference:.2e}",
            str(case.batch),
            str(list(case.index)),
            f"{case.value:.7g}",
            f"{case.expected:.9g}",
        )
        for checked in exported.checked
        for case in checked.worst
    ]
    head = (
        "output", "largest error", "torch float32's own", "allowed", "from torch float32",
        "worst batch", "at", "onnxruntime", "torch float64",
    )  # fmt: skip
    return html_table(head, rows)


def _variant_table(measured: list[Measured]) -> str:
    rows = [
        (
            m.graph,
            f"{m.bytes:,}",
            f"{m.bytes / m.bytes_fp32:.0%}",
            "equal" if np.isinf(m.psnr) else f"{m.psnr:.1f} dB",
            f"{m.differ:.2%}",
            str(m.largest_step),
            f"{m.ms:.3f}",
            f"{m.ms_fp32 / m.ms:.2f}",
        )
        for m in measured
    ]
    head = (
        "graph", "bytes", "of fp32", "PSNR", "pixels that differ", "levels at most",
        "ms a batch of 64", "speed",
    )  # fmt: skip
    return html_table(head, rows)
