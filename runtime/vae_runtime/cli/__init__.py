"""`vae-run`: the command line of the runtime. Each command is a module of its name."""

from __future__ import annotations

import importlib

import click

from .._version import __version__
from .entry import run

COMMANDS = ("sample", "reconstruct", "traverse", "info")

EPILOG = """\b
Examples:
  vae-run sample --digit 3
  vae-run sample --bundle cvae/ --digit 0 --digit 1 -n 8 --seed 0 -o digits.png
  vae-run reconstruct photo.png -o both.png
  vae-run traverse --digit 3 --dim 2 -o walk.gif
"""


class LazyGroup(click.Group):
    """Imports a command's module when it is named: `sample` does not pay for the other ones."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`, or None."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __name__).command
        return command


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vae-run")
def cli() -> None:
    """Sample from, reconstruct with and look into exported autoencoders, without torch.

    Without --bundle the embedded one is used: a conditional VAE trained on MNIST.
    """


def main() -> None:
    """The console script."""
    run(cli, "vae-run")
