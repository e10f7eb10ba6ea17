"""`vae-export`: from a checkpoint, or a module of your own, to a bundle of verified ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vae_runtime import __version__
from vae_runtime.console import given_options, run
from vae_runtime.dependencies import require

EPILOG = """\b
Examples:
  vae-export --ckpt cvae.pt
  vae-export --ckpt cvae.pt --c cvae-c/           also as C without dependencies
  vae-export --ckpt cvae.pt --zip --variant int8 --report
  vae-export --ckpt cvae.pt --data mnist          check with images of the test split
  vae-export --ckpt cvae.pt --triton models/      also for Triton Inference Server
  vae-export --ckpt cvae.pt --html studio.html    also a page that runs it, one file

\b
A module of your own, with encode and decode (or encoder and decoder):
  vae-export --model my.package:make --ckpt weights.pt --data photos/ --activation sigmoid
"""
_OWN = "Of your own module: "


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--ckpt",
    type=click.Path(path_type=Path),
    help="From vae-train; with --model, a state dict saved by torch.",
)
@click.option(
    "--out",
    "-o",
    type=click.Path(path_type=Path),
    help="Folder, or .zip. [default: the checkpoint's name without .pt]",
)
@click.option("--zip", "zipped", is_flag=True, help="One stored .zip instead of a folder.")
@click.option(
    "--data",
    help="Data set whose images the graphs are checked with: mnist, digits, "
    "a folder, .npz, Parquet. With --model also what the latent prior is fitted to.",
)
@click.option("--size", help="Resize image files of --data to HxW, for example 64x64. "
              "[default: a checkpoint's own]")  # fmt: skip
@click.option(
    "--opset",
    type=click.IntRange(18, 23),
    default=18,
    show_default=True,
    help="18 is read by onnxruntime 1.16 and newer.",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(["fp16", "int8", "uint8"]),
    help="Also write the decoders with half the bytes (fp16), a third and faster (int8, MLP "
    "only), or with bytes as pixels (uint8). May be repeated.",
)
@click.option("--allow-lossy", is_flag=True, help="Accept a variant under 45 dB.")
@click.option(
    "--c",
    "c_code",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the decoder as plain C as well, with a program around it.",
)
@click.option(
    "--report",
    is_flag=False,
    flag_value="",
    help="Write parity.json and parity.html to this folder. [default: OUT-report]",
    metavar="[DIR]",
)
@click.option(
    "--triton",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a Triton model repository as well.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page as well that runs the bundle in a browser, one .html file; with --data a "
    "map of its images.",
)
@click.option("--model", metavar="PACKAGE.MODULE:FACTORY", help="What makes a module of your own.")
@click.option("--classes", is_flag=True, help=_OWN + "its decoder takes the data's labels.")
@click.option("--one-hot", is_flag=True, help=_OWN + "labels are one-hot, not indices.")
@click.option("--null-label", type=click.IntRange(0), help=_OWN + 'the index for "no label".')
@click.option(
    "--activation",
    type=click.Choice(["none", "sigmoid", "tanh", "clip"]),
    default="none",
    show_default=True,
    help=_OWN + "what makes its output an image in [0, 1].",
)
@click.option(
    "--spread",
    type=click.Choice(["log_var", "var", "std", "log_std"]),
    default="log_var",
    show_default=True,
    help=_OWN + "what encode's second tensor is.",
)
@click.option("--signed", is_flag=True, help=_OWN + "it encodes pixels in [-1, 1].")
@click.option(
    "--likelihood",
    type=click.Choice(["bernoulli", "gaussian"]),
    default="bernoulli",
    show_default=True,
    help=_OWN + "how a reconstruction is scored.",
)
@click.option(
    "--prior",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "normal", "uniform", "gaussian", "gmm", "class_gmm"]),
    help=_OWN + "what is fitted to the latents of --data.",
)
@click.version_option(__version__, prog_name="vae-export")
def cli(**options: Any) -> None:
    """Export a model to ONNX, each graph compared with torch before anything is written.

    Writes encoder.onnx, decoder.onnx, for a conditional model conditional_decoder.onnx, the
    variants asked for, manifest.json and golden.npz. On any failure nothing is written and a
    previous bundle is kept; the exit code is 4 where a graph differs from torch.
    """
    require("vae-export", "torch", "onnx", "onnxscript")
    from .command import export_command

    export_command(options, given_options())


def main() -> None:
    """The console script."""
    run(cli, "vae-export")
