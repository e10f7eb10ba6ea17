"""`vae-train`: from a data set to a checkpoint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from vae_runtime import __version__
from vae_runtime.console import run, size_option
from vae_runtime.dependencies import require

from .config_file import load_defaults

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


class _Recording(click.Command):
    """Keeps the arguments as they were typed, for the checkpoint to tell."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["typed"] = list(args)
        return super().parse_args(ctx, args)


@click.command(
    cls=_Recording, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("family", type=click.Choice(["ae", "vae", "cvae"]))
@click.option("--data", required=True, help="mnist, digits, a folder of IDX files or images, "
              "an .npz, or Parquet.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Checkpoint to write.")
@click.option(
    "--preset",
    type=click.Choice(["default", "best", "reference"]),
    default="default",
    show_default=True,
    help="The model and recipe that other options adjust.",
)
@click.option("--backbone", type=click.Choice(["mlp", "conv"]))
@click.option("--latent-dim", type=click.IntRange(1, 4096), help="Length of a code.")
@click.option("--hidden", help="Widths (mlp) or channels (conv), for example 512,256.")
@click.option(
    "--label-join",
    type=click.Choice(["add", "mean", "product", "concat", "film"]),
    help="How the label meets the code in the decoder.",
)
@click.option(
    "--encoder-join",
    type=click.Choice(["none", "concat", "film"]),
    help="How the encoder sees the label.",
)
@click.option(
    "--objective", type=click.Choice(["bce", "mse", "gaussian"]), help="Reconstruction term."
)
@click.option("--beta", type=float, help="Weight of the KL term.")
@click.option("--kl-warmup", type=float, help="Epochs in which that weight rises from 0.")
@click.option("--free-bits", type=float, help="Nats of KL a dimension that cost nothing.")
@click.option(
    "--importance-samples", "-k", type=click.IntRange(1), help="Codes an image: IWAE from 2 on."
)
@click.option("--importance-epochs", type=click.IntRange(0), help="In the last epochs alone.")
@click.option("--noise", type=float, help="Standard deviation, added to what the encoder sees.")
@click.option("--binarise/--no-binarise", default=None, help="Draw pixels as 0 or 1 at every step.")
@click.option("--epochs", type=click.IntRange(1))
@click.option("--batch-size", type=click.IntRange(1))
@click.option("--learning-rate", "--lr", type=float)
@click.option("--schedule", type=click.Choice(["constant", "one_cycle"]))
@click.option("--precision", type=click.Choice(["auto", "float32", "bf16"]))
@click.option("--ema", type=float, help="Decay a step of averaged weights, for example 0.999.")
@click.option("--label-dropout", type=float, help="Share of labels hidden while training.")
@click.option("--guidance", type=float, help="How far a label pulls, times what was learned.")
@click.option("--contrast", type=float, help="How hard the edges are, times what was learned.")
@click.option("--validation", type=float, help="Share of the training data held out.")
@click.option("--patience", type=click.IntRange(0), help="Stop after so many worse epochs.")
@click.option(
    "--prior",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "normal", "uniform", "gaussian", "gmm", "class_gmm"]),
    help="What is fitted to the latents at the end.",
)
@click.option("--components", type=click.IntRange(1), help="Gaussians in each mixture.")
@click.option("--prior-spread", type=float, help="Share of the posterior's deviation in it.")
@size_option
@click.option("--mode", type=click.Choice(["L", "RGB"]), help="Convert image files.")
@click.option("--metrics", type=click.Path(path_type=Path), help="Append JSON lines here.")
@click.option("--no-report", is_flag=True, help="No pictures and no report.html beside --out.")
@click.option("--tensorboard", is_flag=True, help="Write an event file for TensorBoard too.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="OpenMP threads; two pay off for conv only.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on where a run with this --out was stopped.")
@click.option(
    "--save-every",
    type=click.FloatRange(0),
    default=30.0,
    show_default=True,
    help="Seconds of work that a kill may cost.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=load_defaults,
    help="Options from a TOML file; those given here win.",
)
@click.version_option(__version__, prog_name="vae-train")
@click.pass_context
def cli(context: click.Context, /, family: str, data: str, out: Path, **options: Any) -> None:
    """Train an AE, a VAE or a conditional VAE and write a checkpoint.

    At the end a latent prior is fitted to the latents, and the test split, if any, is scored. Beside
    the checkpoint, a folder .run keeps options, metrics and, until the end, the state.
    """
    require("vae-train", "torch", "sklearn", "rich")
    from .command import train_command

    train_command(family, data, out, options, recorded(context.meta["typed"]))


def recorded(arguments: list[str]) -> str:
    """The command as typed, with paths cut down to their last part.

    Without `--resume`: a run that was stopped is the same run.
    """
    words = []
    for word in (word for word in arguments if word != "--resume"):
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(option + equals + (Path(value).name if "/" in value else value))
    return shlex.join(["vae-train", *words])


def main() -> None:
    """The console script."""
    run(cli, "vae-train")
