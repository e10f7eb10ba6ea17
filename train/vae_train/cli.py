"""The command line of `vae-train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vae_runtime import __version__
from vae_runtime.console import PATH, parse_size, print_status, run, size_option
from vae_runtime.dependencies import require

from .config_file import load_defaults
from .options import TrainOptions, parse_hidden

EPILOG = """\b
Examples:
  vae-train cvae --data mnist --out cvae.pt
  vae-train ae --data digits --latent-dim 2 --out ae.pt
  vae-train cvae --preset reference --objective mse --beta 3 --data mnist --out ref.pt
  vae-train vae --data photos/ --size 64x64 --out vae.pt
  vae-train cvae --data mnist --out cvae.pt --resume
  vae-train --config cvae.run/config.toml --seed 1 --out again.pt
  torchrun --nproc-per-node 2 -m vae_train cvae --data mnist --out cvae.pt
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("family", type=click.Choice(["ae", "vae", "cvae"]))
@click.option(
    "--data",
    required=True,
    type=PATH,
    help="Training data: mnist, fashion, digits, or the path of images, IDX files, arrays (.npz, "
    ".npy) or Parquet.",
)
@click.option(
    "--out", "-o", required=True, type=click.Path(path_type=Path), help="Checkpoint to write."
)
@click.option(
    "--preset",
    type=click.Choice(["default", "best", "reference"]),
    default="default",
    show_default=True,
    help="Starting point for model and training; other options override it.",
)
@click.option(
    "--backbone",
    type=click.Choice(["mlp", "conv"]),
    help="Fully connected or convolutional network.",
)
@click.option("--latent-dim", type=click.IntRange(1, 4096), help="Number of latent dimensions.")
@click.option(
    "--hidden", help="Widths (mlp) or channels (conv) of the hidden layers, for example 512,256."
)
@click.option(
    "--label-join",
    type=click.Choice(["add", "mean", "product", "concat", "film"]),
    help="How the decoder combines the label with z.",
)
@click.option(
    "--encoder-join",
    type=click.Choice(["none", "concat", "film"]),
    help="How the label enters the encoder.",
)
@click.option(
    "--objective",
    type=click.Choice(["bce", "mse", "gaussian"]),
    help="Reconstruction loss: Bernoulli, squared error or Gaussian.",
)
@click.option("--beta", type=float, help="Weight of the KL term.")
@click.option(
    "--kl-warmup", type=float, help="Epochs over which the KL weight rises from 0 to --beta."
)
@click.option(
    "--free-bits", type=float, help="Nats of KL per latent dimension that are not penalized."
)
@click.option(
    "--importance-samples",
    "-k",
    type=click.IntRange(1),
    help="Latent samples per image; with 2 or more, optimise the importance-weighted bound (IWAE).",
)
@click.option(
    "--importance-epochs",
    type=click.IntRange(0),
    help="Number of final epochs that use --importance-samples; 0 means all.",
)
@click.option(
    "--noise", type=float, help="Standard deviation of the noise added to the encoder's input."
)
@click.option(
    "--binarise/--no-binarise", default=None, help="At every step, sample each pixel as 0 or 1."
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(1), help="Images per training step.")
@click.option(
    "--learning-rate", "--lr", type=float, help="Learning rate of Adam; with one_cycle, its peak."
)
@click.option(
    "--schedule", type=click.Choice(["constant", "one_cycle"]), help="Learning rate schedule."
)
@click.option(
    "--gradient-clip",
    type=float,
    help="Clip gradients at this multiple (above 1) of their average norm; 0 disables clipping.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16"]),
    help="Precision of matrix multiplications.",
)
@click.option(
    "--ema", type=float, help="Average the weights with this decay per step, for example 0.999."
)
@click.option("--label-dropout", type=float, help="Fraction of labels to drop during training.")
@click.option(
    "--guidance", type=float, help="After training, scale the label's effect on the decoder."
)
@click.option("--contrast", type=float, help="After training, scale the decoder's logits.")
@click.option("--validation", type=float, help="Fraction of the training data to hold out.")
@click.option(
    "--patience",
    type=click.IntRange(0),
    help="Stop after this many epochs without a lower validation loss.",
)
@click.option(
    "--prior",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "normal", "uniform", "gaussian", "gmm", "class_gmm"]),
    help="Latent prior to fit after training.",
)
@click.option(
    "--components", type=click.IntRange(1), help="Gaussians per mixture in the fitted prior."
)
@click.option(
    "--prior-spread",
    type=float,
    help="Fit the prior to latents sampled with this fraction of the posterior standard deviation.",
)
@size_option
@click.option(
    "--mode",
    type=click.Choice(["L", "RGB"]),
    help="Convert image files to greyscale (L) or colour (RGB).",
)
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="Append each epoch's metrics to this file, as JSON lines.",
)
@click.option("--no-report", is_flag=True, help="Do not write report.html and its figures.")
@click.option("--tensorboard", is_flag=True, help="Also write an event file for TensorBoard.")
@click.option(
    "--device", default="auto", show_default=True, help="Where to train: auto, cpu, cuda or cuda:N."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="OpenMP threads; more than one helps only conv models.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Random seed for weights, data order and noise.",
)
@click.option("--resume", is_flag=True, help="Continue the interrupted run with the same --out.")
@click.option(
    "--force", is_flag=True, help="Replace the finished or unfinished run with the same --out."
)
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds between saves of the state that --resume needs.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=load_defaults,
    help="Read options from a TOML file; the command line overrides them.",
)
@click.version_option(__version__, prog_name="vae-train")
def cli(size: str | None, hidden: str | None, **options: Any) -> None:
    """Train an AE, VAE or conditional VAE (CVAE) and write a checkpoint.

    After training, vae-train fits a prior to the latents and, if the data has a test split,
    evaluates the model on it. The run folder (cvae.run for cvae.pt) holds the options, the metrics,
    a report and, until training is complete, the state for --resume.
    """
    require("vae-train", "torch", "sklearn", "rich")
    from .device import keep_freed_memory
    from .loop import Stopped
    from .training import run_training

    keep_freed_memory()
    made = TrainOptions(size=parse_size(size), hidden=parse_hidden(hidden), **options)
    try:
        run_training(made, (), print_status)
    except Stopped as stopped:
        raise click.exceptions.Exit(128 + stopped.signal) from None


def main() -> None:
    """Run the console script `vae-train`."""
    run(cli, "vae-train")
