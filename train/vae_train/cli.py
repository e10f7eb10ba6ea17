"""The command line of `vae-train`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from vae_runtime import __version__
from vae_runtime.console import parse_size, run, size_option
from vae_runtime.dependencies import require
from vae_runtime.errors import UsageError

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


class _RecordingCommand(click.Command):
    """Keeps the arguments as they were typed, to be recorded in the checkpoint."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["arguments"] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    cls=_RecordingCommand, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("family", type=click.Choice(["ae", "vae", "cvae"]))
@click.option(
    "--data",
    required=True,
    help="mnist, digits, a folder of IDX files or images, an .npz file, or Parquet.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Checkpoint to write.")
@click.option(
    "--preset",
    type=click.Choice(["default", "best", "reference"]),
    default="default",
    show_default=True,
    help="Model and training config that the other options adjust.",
)
@click.option("--backbone", type=click.Choice(["mlp", "conv"]), help="Kind of layers.")
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
    help="How the encoder sees the label.",
)
@click.option(
    "--objective",
    type=click.Choice(["bce", "mse", "gaussian"]),
    help="Reconstruction term of the loss.",
)
@click.option("--beta", type=float, help="Weight of the KL term.")
@click.option("--kl-warmup", type=float, help="Epochs over which that weight rises from 0.")
@click.option("--free-bits", type=float, help="Unpenalized nats of KL per latent dimension.")
@click.option(
    "--importance-samples",
    "-k",
    type=click.IntRange(1),
    help="Latent samples per image; with 2 or more, train the importance-weighted bound (IWAE).",
)
@click.option(
    "--importance-epochs",
    type=click.IntRange(0),
    help="Use --importance-samples only in this many last epochs.",
)
@click.option("--noise", type=float, help="Standard deviation of noise on the encoder's input.")
@click.option(
    "--binarise/--no-binarise", default=None, help="Sample each pixel as 0 or 1 at every step."
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(1), help="Images per step.")
@click.option(
    "--learning-rate", "--lr", type=float, help="Adam's learning rate; with one_cycle, its peak."
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "one_cycle"]),
    help="How the learning rate changes over time.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16"]),
    help="Number format of the matrix products.",
)
@click.option("--ema", type=float, help="Average weights with this decay per step, such as 0.999.")
@click.option("--label-dropout", type=float, help="Fraction of labels to hide during training.")
@click.option("--guidance", type=float, help="After training, scale each class's effect.")
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
@click.option("--components", type=click.IntRange(1), help="Gaussians per mixture of the prior.")
@click.option(
    "--prior-spread",
    type=float,
    help="Fraction of the posterior's standard deviation that the prior includes.",
)
@size_option
@click.option(
    "--mode", type=click.Choice(["L", "RGB"]), help="Convert image files to gray or color."
)
@click.option(
    "--metrics",
    type=click.Path(path_type=Path),
    help="Append the metrics of each epoch to this file, as JSON lines.",
)
@click.option("--no-report", is_flag=True, help="Do not write report.html and its pictures.")
@click.option("--tensorboard", is_flag=True, help="Also write an event file for TensorBoard.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="OpenMP threads; a second one helps only conv models.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of the weights, the order of the data and all noise.",
)
@click.option("--resume", is_flag=True, help="Continue the stopped run that writes this --out.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds between two saves of the state for --resume.",
)
@click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=load_defaults,
    help="Read options from a TOML file; the command line overrides them.",
)
@click.version_option(__version__, prog_name="vae-train")
@click.pass_context
def cli(context: click.Context, /, size: str | None, hidden: str | None, **options: Any) -> None:
    """Train an AE, a VAE or a conditional VAE and write a checkpoint.

    After training, a prior is fitted to the latents, and the model is scored on the test split if
    there is one. The folder with the checkpoint's name and the ending .run keeps the options, the
    metrics, a report and, until the run is finished, its state.
    """
    require("vae-train", "torch", "sklearn", "rich")
    from .command import run_command

    command = recorded_command(context.meta["arguments"])
    run_command(
        TrainOptions(size=parse_size(size), hidden=parse_hidden(hidden), **options), command
    )


def recorded_command(arguments: list[str]) -> str:
    """The command line to record, with paths reduced to their last part.

    `--resume` is left out, so that a run that was stopped gives the same checkpoint.

    Raises:
        UsageError: an argument is not valid UTF-8.
    """
    words = []
    for word in (word for word in arguments if word != "--resume"):
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(option + equals + (Path(value).name if "/" in value else value))
    command = shlex.join(["vae-train", *words])
    try:
        command.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{command!a}: a name that is not UTF-8 cannot be recorded") from None
    return command


def main() -> None:
    """The console script."""
    run(cli, "vae-train")
