"""`vae-run info`: describe a bundle or a single graph."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from ..console import print_json
from . import options

if TYPE_CHECKING:
    from ..bundle.manifest import Manifest
    from ..bundle.spec import ModelSpec

EPILOG = """\b
Examples:
  vae-run info
  vae-run info cvae/ --json
  vae-run info cvae/conditional_decoder.onnx
"""

Rows = list[tuple[str, str]]


@click.command(epilog=EPILOG)
@options.bundle_argument
@options.bundle
@options.as_json
def command(bundle: str, as_json: bool) -> None:
    """Describe a bundle or a single graph.

    Reports its family, shapes, classes, prior and parity with torch. BUNDLE is a folder, a
    .zip or an .onnx file; the default is the embedded MNIST bundle.
    """
    from ..errors import printable

    rows, summary = _graph(bundle) if bundle.endswith(".onnx") else _bundle(bundle)
    if as_json:
        print_json(summary)
        return
    widest = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{widest}}  {printable(value)}")


def _bundle(name: str) -> tuple[Rows, dict[str, Any]]:
    from ..bundle.reader import open_bundle

    manifest = open_bundle(name).manifest
    summary: dict[str, Any] = json.loads(manifest.to_bytes())
    return _spec_rows(manifest.spec) + _manifest_rows(manifest), summary


def _graph(name: str) -> tuple[Rows, dict[str, Any]]:
    """Describe one file: its metadata, and the inputs and outputs that it declares."""
    from ..bundle.spec import METADATA_KEY, parse_spec
    from ..graph_source import read_graph
    from ..graphs import check_tensors

    contents = read_graph(name)
    spec, role, variant = parse_spec(contents.metadata[METADATA_KEY], name)
    check_tensors(contents, spec, role, variant, name)
    summary: dict[str, Any] = spec.to_json() | {"role": role, "variant": variant}
    rows = [("role", role), ("variant", variant)]
    for side, found in (("inputs", contents.inputs), ("outputs", contents.outputs)):
        tensors: list[dict[str, Any]] = [
            {"name": t.name, "dtype": t.type[7:-1], "shape": list(t.shape)} for t in found.values()
        ]
        summary[side] = tensors
        for one in tensors:
            shape = ", ".join(map(str, one["shape"]))
            rows.append((side[:-1], f"{one['name']} {one['dtype']}[{shape}]"))
    return rows + _spec_rows(spec), summary


def _spec_rows(spec: ModelSpec) -> Rows:
    """Return the rows that a bundle and each of its graphs have in common."""
    prior, image = spec.prior, spec.image
    mixture = (
        "" if prior.weights is None else f", {prior.rows} × {prior.weights.shape[1]} Gaussians"
    )
    scale = "" if spec.sigma is None else f", sigma {spec.sigma:.4g}"
    return [
        ("bundle", spec.id),
        ("family", spec.family),
        ("image", f"{image.height}×{image.width} {image.mode}, [0, 1]"),
        ("latent_dim", str(spec.latent_dim)),
        ("classes", ", ".join(spec.classes) or "none"),
        ("likelihood", spec.likelihood + scale),
        ("prior", prior.kind + mixture),
    ]


def _manifest_rows(manifest: Manifest) -> Rows:
    """Return the rows about graphs, training and parity."""
    rows = [
        (
            graph.role if graph.variant == "fp32" else f"  {graph.variant}",
            f"{graph.file.file}, {graph.file.bytes:,} bytes, opset {graph.opset}",
        )
        for graph in manifest.graphs
    ]
    training = manifest.training
    for key in ("command", "epochs", "parameters"):
        if training.get(key):
            value = training[key]
            rows.append((key, f"{value:,}" if isinstance(value, int) else str(value)))
    for key, value in training.get("metrics", {}).items():
        rows.append((key, f"{value:.4f}" if isinstance(value, float) else str(value)))
    for key, value in manifest.parity.items():
        if isinstance(value, dict):
            rows += [(key, f"{name} {one}") for name, one in value.items()]
        else:
            rows.append((key, str(value)))
    return rows
