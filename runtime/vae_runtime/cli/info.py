"""`vae-run info`: what a bundle is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from .options import json_option

if TYPE_CHECKING:
    from ..manifest import Manifest

EPILOG = """\b
Examples:
  vae-run info
  vae-run info cvae/ --json
"""


@click.command(epilog=EPILOG)
@click.argument("bundle", default="mnist")
@json_option
def command(bundle: str, as_json: bool) -> None:
    """Show what a bundle is: family, shapes, classes, prior, graphs, training, parity."""
    from ..bundle import open_bundle

    manifest = open_bundle(bundle).manifest
    if as_json:
        data: dict[str, Any] = json.loads(manifest.to_bytes())
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    for name, value in rows(manifest):
        click.echo(f"{name:<12} {value}")


def rows(manifest: Manifest) -> list[tuple[str, str]]:
    """The table, as name and value."""
    card, training = manifest.card, manifest.training
    prior = card.prior
    mixture = (
        "" if prior.weights is None else f", {prior.rows} × {prior.weights.shape[1]} Gaussians"
    )
    table = [
        ("bundle", card.id),
        ("family", card.family),
        ("image", f"{card.image.height}×{card.image.width} {card.image.mode}, [0, 1]"),
        ("latent", f"{card.latent_dim} dimensions"),
        ("classes", ", ".join(card.classes) or "none"),
        ("likelihood", card.likelihood),
        ("prior", prior.kind + mixture),
    ]
    table += [
        (
            graph.role if graph.variant == "fp32" else f"  {graph.variant}",
            f"{graph.file.file}, {graph.file.bytes:,} bytes, opset {graph.opset}",
        )
        for graph in manifest.graphs
    ]
    for key in ("command", "epochs", "parameters"):
        if training.get(key):
            table.append((key, str(training[key])))
    for key, value in dict(training.get("metrics") or {}).items():
        table.append((key, f"{value:.4f}" if isinstance(value, float) else str(value)))
    for key, value in manifest.parity.items():
        table.append((key, str(value)))
    return [(name, one.replace("\n", " ")) for name, one in table]
