"""The page of a report: warnings first, then figures, curves and pictures, all in one file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from vae_runtime.html import data_uri, html_document, html_table

from .advice import Finding
from .figures import Figures
from .subject import Subject

_STYLE = """
aside { border-left: .3rem solid var(--limit); padding: .1rem 0 .1rem .8rem; margin: 1rem 0; }
aside.note { border-color: var(--bar); }
img { max-width: 100%; height: auto; }
img.chart { width: 34rem; } img.pixels { image-rendering: pixelated; }
td { white-space: normal; } td:nth-child(2) { white-space: nowrap; }
td:last-child, th:last-child { text-align: left; }
code { font: inherit; white-space: nowrap; }
@media print { .scroll { overflow: visible; } img { max-height: 85vh; width: auto; } }
"""
# Of the last column, what a reader compares each figure with.
_HEAD = ("figure", "value", "beside")


@dataclass(frozen=True)
class Picture:
    """A PNG of the run's folder; `dark` is its twin for a dark page, if it has one."""

    name: str
    heading: str
    caption: str
    png: bytes
    dark: bytes | None = None


def report_page(
    title: str, subject: Subject, figures: Figures, findings: list[Finding], pictures: list[Picture]
) -> str:
    """One HTML page without any resource of its own."""
    parts = [f'<p class="soft">{_text(line)}</p>' for line in _about(subject)]
    parts += [_aside(finding) for finding in findings]
    if not findings:
        parts.append("<p>No warnings: every check that this page makes has passed.</p>")
    parts += ["<h2>Figures</h2>", html_table(_HEAD, _rows(figures, subject))]
    parts.append(f'<p class="soft">{escape(_protocol(figures))}</p>')
    return html_document(title, [*parts, *map(_figure, pictures)], _STYLE)


def _about(subject: Subject) -> tuple[str, ...]:
    checkpoint = subject.checkpoint
    facts, model = checkpoint.facts, checkpoint.model
    c, h, w = model.image_shape
    classes = f", {model.classes} classes" if model.family == "cvae" else ""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    data, epochs = facts["data"], facts["epochs"]
    seconds = sum(epoch.seconds for epoch in subject.history)
    return (
        facts["command"],
        f"{model.family} {model.backbone}, {facts['parameters']:,} parameters, images {c} by {h} "
        f"by {w}, latents of {model.latent_dim}{classes}. {data['name']}: {data['training']:,} "
        f"training images, {epochs} epoch{'' if epochs == 1 else 's'}, "
        f"{seconds:,.0f} seconds. {versions}.",
    )


def _text(text: str) -> str:
    """Plain text as HTML; an option is not broken between its hyphens."""
    return re.sub(r"--[a-z][a-z-]*", r"<code>\g<0></code>", escape(text))


def _aside(finding: Finding) -> str:
    word = "Note" if finding.level == "note" else "Warning"
    return (
        f'<aside class="{finding.level}"><p><strong>{word}: {_text(finding.seen)}</strong></p>'
        f"<p>{_text(finding.means)}</p><p>Try: {_text(finding.advice)}</p></aside>"
    )


def _rows(figures: Figures, subject: Subject) -> list[tuple[str, str, str]]:
    """Those that were measured; the others are left out."""
    config, dim = subject.checkpoint.train, figures.latent_dim
    unit = "squared error" if config.objective == "mse" else "nats"
    metrics = subject.checkpoint.facts["metrics"]
    rows = [
        ("training loss", f"{figures.training_loss:.2f}",
         f"{config.objective}, {unit} an image"),
        ("validation loss", _plain(metrics.get("validation_loss"), 2), "after the same epoch"),
        ("test loss", _plain(metrics.get("test_loss"), 2), "all test images"),
        ("squared error a pixel", f"{figures.mse:.4f}",
         f"PCA-{dim}: {_plain(figures.pca_mse, 4)}"),
        ("active units", f"{figures.active_units}", f"of {dim}"),
        ("KL an image", _plain(figures.total_kl, 2), "nats, all dimensions"),
        ("linear probe of the label", _plain(figures.probe, 3),
         f"readable from {_plain(figures.probe_limit, 2)}"),
        ("samples to data", _plain(figures.samples_distance, 3),
         f"reconstructions {_plain(figures.reconstructions_distance, 3)}, "
         f"training images {_plain(figures.floor_distance, 3)}"),
        ("log-likelihood of latents", _plain(
            subject.checkpoint.facts["prior_held_out_log_likelihood"], 2),
         f"{subject.checkpoint.prior.kind}; nats a held-out code"),
    ]  # fmt: skip
    return [row for row in rows if row[1] != "-"]


def _plain(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _protocol(figures: Figures) -> str:
    return (
        f"Measured on {figures.images:,} {figures.part} images, drawn at random; PCA fitted to "
        f"{figures.pca_images:,} training images. Distances are Fréchet's, on the principal "
        "components of the pixels, as a share of the data's variance there."
    )


def _figure(picture: Picture) -> str:
    """A picture in place; a browser picks the dark twin on a dark page."""
    kind = "chart" if picture.dark else "pixels"
    said = escape(picture.caption, quote=True)
    image = f'<img class="{kind}" alt="{said}" src="{data_uri(picture.png)}">'
    if picture.dark:
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(picture.dark)}">'
        image = f"<picture>{dark}{image}</picture>"
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f"<h2>{escape(picture.heading)}</h2>\n<figure>{image}{caption}</figure>"
