"""`vae-export`: from a checkpoint to a bundle of verified ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import click

from vae_runtime import __version__
from vae_runtime.cli.entry import note, require, run

EPILOG = """\b
Examples:
  vae-export --ckpt cvae.pt
  vae-export --ckpt cvae.pt --out model.zip
  vae-export --ckpt cvae.pt --data mnist          check with 1,000 images of the test split
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--ckpt", required=True, type=click.Path(path_type=Path), help="From vae-train.")
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder, or .zip. [default: the checkpoint's name without .pt]",
)
@click.option("--data", help="Data set whose test split the graphs are checked with.")
@click.option("--opset", type=click.IntRange(18, 23), default=18, show_default=True)
@click.version_option(__version__, prog_name="vae-export")
def cli(ckpt: Path, out: Path | None, data: str | None, opset: int) -> None:
    """Export a checkpoint to ONNX, each graph compared with torch before anything is written.

    Writes encoder.onnx, decoder.onnx, for a conditional model conditional_decoder.onnx,
    manifest.json and golden.npz. On any failure nothing is written and a previous bundle is kept.
    """
    require("vae-export", "torch", "onnx", "onnxscript")
    from vae_runtime.datasets import load_dataset
    from vae_train import load_checkpoint

    from .bundle import check_target
    from .export import export_checkpoint
    from .parity import Worst

    target = out or ckpt.with_suffix("")
    checkpoint = load_checkpoint(ckpt)
    check_target(target)
    images = None if data is None else load_dataset(data, "test")

    def say(role: str, worst: list[Worst]) -> None:
        largest = max(worst, key=lambda w: w.error)
        note(f"{role}: as torch, max error {largest.error:.1e} (allowed {largest.tolerance:.1e})")

    manifest = export_checkpoint(checkpoint, target, data=images, opset=opset, on_graph=say)
    size = sum(spec.bytes for spec in manifest.files().values())
    note(f"wrote {target}, {size:,} bytes. Next: vae-run sample --bundle {target}")


def main() -> None:
    """The console script."""
    run(cli, "vae-export")
