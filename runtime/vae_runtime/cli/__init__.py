"""`vae-run`: the runtime's command line; each command is in the module of the same name."""

from __future__ import annotations

import gc
import importlib
import sys
import warnings

import click

from .._version import __version__
from ..console import exit_now, print_status, quiet_option, reserve_stdout, run
from ..errors import suggest
from ..inference.interrupt import listen

COMMANDS = (
    "sample",
    "reconstruct",
    "denoise",
    "traverse",
    "interpolate",
    "encode",
    "decode",
    "compress",
    "decompress",
    "score",
    "detect",
    "evaluate",
    "batch",
    "info",
    "unpack",
    "verify",
    "doctor",
    "bench",
    "serve",
    "studio",
)

EPILOG = """\b
Examples:
  vae-run sample --digit 3 --show
  vae-run sample --bundle cvae/ --digit 0 --digit 1 -n 8 --seed 0 -o digits.png
  vae-run reconstruct digit.png -o both.png
  vae-run traverse --digit 3 --dim 2 -o walk.gif

\b
Shell completion, for .bashrc (zsh_source and fish_source do the same):
  eval "$(_VAE_RUN_COMPLETE=bash_source vae-run)"
"""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands in the order that the help shows them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command called `cmd_name`, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __name__).command
        return _finished(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve the command; for a misspelt one, suggest the closest name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = suggest(args[0], COMMANDS)
            raise click.UsageError(f"{error.message}{hint}", ctx) from None

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; print each warning as one line on standard error."""
        warnings.showwarning = lambda message, *_, **__: print_status(f"note: {message}")
        return super().invoke(ctx)


def _finished(command: click.Command) -> click.Command:
    """Add --quiet to a command, or to each command of a group, and show its whole summary."""
    command.short_help = " ".join((command.help or "").partition("\n\n")[0].split())
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _finished(inner)
    elif not any(param.name == "quiet" for param in command.params):
        quiet_option(command)
    return command


@click.group(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="vae-run")
def cli() -> None:
    """Run exported autoencoders without torch: sample, reconstruct, encode, score and more.

    The default --bundle is embedded: a conditional VAE trained on MNIST. Another
    embedded one, fashion, draws clothes.
    """


def main() -> None:
    """Run `vae-run`."""
    # Almost all objects that imports make are permanent. Searching them for garbage takes 9 of the
    # 225 ms of `vae-run sample`.
    gc.set_threshold(100_000, 50, 50)
    reserve_stdout()
    listen()
    try:
        run(cli, "vae-run")
    except SystemExit as end:
        if "distributed" not in sys.modules:
            exit_now(end.code)
        # Dask ends its worker processes in an exit handler, so the interpreter must exit normally.
        if sys.stdout is not None:
            sys.stdout.close()  # `reserve_stdout` opened it
        raise
