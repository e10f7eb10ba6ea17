"""Render a report as one HTML file: findings first, then measurements and pictures."""

from __future__ import annotations

import re
from html import escape

from vae_runtime.console import pluralize
from vae_runtime.html import data_uri, html_document, html_table

from ..checkpoint import Checkpoint
from .figures import Picture
from .findings import Finding
from .measure import Measurements
from .trained_model import TrainedModel

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


def render_report(
    title: str,
    trained: TrainedModel,
    measured: Measurements,
    findings: list[Finding],
    pictures: list[Picture],
) -> str:
    """Render a report as one self-contained HTML page."""
    parts = [f'<p class="soft">{_to_html(line)}</p>' for line in _summary(trained)]
    parts += [_finding(finding) for finding in findings]
    if not findings:
        parts.append("<p>No warnings: the model passed every check of this report.</p>")
    rows = _measurement_rows(measured, trained)
    parts += ["<h2>Measurements</h2>", html_table(("measurement", "value", "notes"), rows)]
    parts += [f'<p class="soft">{escape(line)}</p>' for line in _method(measured)]
    return html_document(title, [*parts, *map(_picture, pictures)], _STYLE)


def _summary(trained: TrainedModel) -> tuple[str, ...]:
    checkpoint = trained.checkpoint
    metadata, model = checkpoint.metadata, checkpoint.model
    c, h, w = model.image_shape
    classes = f", {pluralize(model.classes, 'class', 'classes')}" if model.classes else ""
    versions = ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
    data = metadata["data"]
    seconds = sum(epoch.seconds for epoch in trained.history)
    return (
        metadata["command"],
        f"Model: {model.family}, {model.backbone}, {metadata['parameters']:,} parameters, images "
        f"of {c}×{h}×{w} (channels, height, width), "
        f"{pluralize(model.latent_dim, 'latent dimension')}{classes}.",
        f"Training: {pluralize(metadata['epochs'], 'epoch')} on "
        f"{pluralize(data['training'], 'image')} of {data['name']} in {seconds:,.1f} s, with "
        f"{versions}.",
    )


def _to_html(text: str) -> str:
    """Escape plain text, and mark options so that browsers do not break them at hyphens."""
    return re.sub(r"--[a-z][a-z-]*", r"<code>\g<0></code>", escape(text))


def _finding(finding: Finding) -> str:
    return (
        f'<aside class="{finding.level}"><p><strong>{finding.level.capitalize()}: '
        f"{_to_html(finding.observation)}</strong></p><p>{_to_html(finding.explanation)}</p>"
        f"<p>Try: {_to_html(finding.advice)}</p></aside>"
    )


def _measurement_rows(measured: Measurements, trained: TrainedModel) -> list[tuple[str, str, str]]:
    """List the name, value and notes of each measurement that was taken."""
    checkpoint, dim = trained.checkpoint, measured.latent_dim
    objective = checkpoint.train.objective
    unit = "squared error" if objective == "mse" else "nats (natural-log units)"
    metrics = checkpoint.metadata["metrics"]
    latent_likelihood = checkpoint.metadata["prior_held_out_log_likelihood"]
    rows = [
        ("training loss", _number(measured.training_loss, 2),
         f"{unit} per image (objective {objective}), in the epoch whose weights were kept"),
        ("validation loss", _number(metrics.get("validation_loss"), 2), "after the same epoch"),
        ("test loss", _number(metrics.get("test_loss"), 2), "final model, on all test images"),
        ("squared error", _number(measured.mse, 4),
         f"per pixel; PCA with {pluralize(dim, 'component')}: {_number(measured.pca_mse, 4)}"),
        ("active units", str(measured.active_units),
         f"of {pluralize(dim, 'latent dimension')}; an active unit varies with the image"),
        ("KL divergence", _number(measured.total_kl, 2),
         "nats per image, of the posterior relative to N(0, I)"),
        ("linear probe accuracy", _number(measured.probe_accuracy, 3),
         "for predicting the label from the latents; " + _probe_note(checkpoint, measured)),
        ("Fréchet distance of samples", _number(measured.sample_distance, 3),
         f"reconstructions: {_number(measured.reconstruction_distance, 3)}, "
         f"training images: {_number(measured.training_distance, 3)}"),
        ("latent log-likelihood", _number(latent_likelihood, 2),
         f"nats per held-out latent vector, under the fitted prior ({checkpoint.prior.kind})"),
    ]  # fmt: skip
    return [row for row in rows if row[1] != "-"]


def _probe_note(checkpoint: Checkpoint, measured: Measurements) -> str:
    """Say what a high accuracy means: a fault of a CVAE, whose decoder is given the label."""
    if checkpoint.model.family == "cvae":
        return f"above {_number(measured.probe_limit, 2)}, the latents reveal the label"
    return f"higher means more useful features; guessing has {_number(measured.chance_accuracy, 2)}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _method(measured: Measurements) -> list[str]:
    lines = [
        f"Measured on {measured.images:,} random {measured.split} images. PCA (principal component "
        f"analysis) was fitted to {measured.pca_images:,} training images."
    ]
    if measured.sample_distance is not None:
        lines.append(
            "Fréchet distances are to those images, on the principal components of the pixels and "
            "relative to the variance of the images: 0 means the same distribution."
        )
    return lines


def _picture(picture: Picture) -> str:
    """Embed a picture, including its dark version for browsers in dark mode."""
    kind = "chart" if picture.dark else "pixels"
    alt = escape(picture.caption, quote=True)
    image = f'<img class="{kind}" alt="{alt}" src="{data_uri(picture.png)}">'
    if picture.dark:
        dark = f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(picture.dark)}">'
        image = f"<picture>{dark}{image}</picture>"
    caption = f"<figcaption>{escape(picture.caption)}</figcaption>"
    return f"<h2>{escape(picture.heading)}</h2>\n<figure>{image}{caption}</figure>"
