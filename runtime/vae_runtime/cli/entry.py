"""How every command of this project starts and ends: one line on an error, the fitting exit code."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import NoReturn

import click

from ..errors import MissingExtra, VaeError, one_line

INTERRUPTED = 130
BUG = 70


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command, print any error as one line on standard error, exit with its code.

    Set VAE_DEBUG=1 to see the traceback as well.
    """
    try:
        command.main(prog_name=program, standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        hint = f" Try: {program} --help" if isinstance(error, click.UsageError) else ""
        if isinstance(error, click.UsageError) and error.ctx:
            hint = f" Try: {error.ctx.command_path} --help"
        _fail(error.format_message() + hint, 2)
    except VaeError as error:
        _debug()
        _fail(error, error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError:
        _fail("out of memory. Ask for fewer or smaller images at a time.", 5)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a bare traceback
        _debug()
        _fail(f"{type(error).__name__}: {error}. This is a bug; VAE_DEBUG=1 shows where.", BUG)
    sys.exit(0)


def note(message: object) -> None:
    """One line for the person at the terminal, on standard error."""
    click.echo(one_line(message), err=True)


def require(program: str, *packages: str) -> None:
    """Refuse to go on without the packages of the `train` extra.

    Raises:
        MissingExtra: with the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{program} needs {', '.join(missing)}, not installed here. "
            'Run: pip install "vae-onnx[cpu,train]"'
        )


def _fail(message: object, code: int) -> NoReturn:
    note(f"error: {one_line(message)}")
    sys.exit(code)


def _debug() -> None:
    if os.environ.get("VAE_DEBUG"):
        import traceback

        traceback.print_exc()
