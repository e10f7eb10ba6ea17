"""How every command starts and ends: one line on an error, the fitting exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

import click

from ..errors import VaeError, one_line

INTERRUPTED = 130
BUG = 70
# What a group without a command raises from click 8.2 on; before, it printed its help itself.
_NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())


class InterruptError(Exception):
    """Ctrl-C, in a form that click does not answer with an empty line of its own."""


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command, print any error as one line on standard error, exit with its code.

    Set VAE_DEBUG=1 to see the traceback as well.
    """
    try:
        code = command.main(prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, click.Abort, InterruptError):
        _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        _usage(error, program)
    except VaeError as error:
        _debug()
        _fail(error, error.exit_code)
    except BrokenPipeError:
        drop_stdout()  # the reader of our output went away, as `| head` does
        sys.exit(0)
    except OSError as error:
        _debug()
        _fail(f"{error.filename or 'output'}: {(error.strerror or str(error)).lower()}", 6)
    except MemoryError:
        _fail("out of memory. Ask for fewer or smaller images at a time.", 5)
    except Exception as error:  # noqa: BLE001 - the last line of defence: never a bare traceback
        _debug()
        _fail(f"{type(error).__name__}: {error}. This is a bug; VAE_DEBUG=1 shows where.", BUG)
    # click returns the code of `ctx.exit`, and what the command itself returned.
    sys.exit(code if isinstance(code, int) else 0)


def claim_stdout() -> None:
    """Keep standard output for the payload alone.

    onnxruntime and the libraries of CUDA print to file descriptor 1. It becomes standard error, and
    `sys.stdout` writes to a copy of what it was.
    """
    try:
        own = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return  # one of them is closed; nothing to keep apart
    previous = sys.stdout
    encoding = getattr(previous, "encoding", None)
    errors = getattr(previous, "errors", None)
    sys.stdout = open(own, "w", encoding=encoding, errors=errors)  # noqa: PTH123, SIM115


def leave(code: object) -> NoReturn:
    """End the process at once: tearing numpy and onnxruntime down takes longer than a sample."""
    import atexit

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 0)


def drop_stdout() -> None:
    """Let what is still buffered for standard output vanish: Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(message: object) -> None:
    """One line for the person at the terminal, on standard error."""
    click.echo(one_line(message), err=True)


def amount(n: int, noun: str, nouns: str = "") -> str:
    """`1 code`, `1,000 codes`."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def _usage(error: click.ClickException, program: str) -> NoReturn:
    """The call is wrong: one line and where to read on, or the help where there was no command."""
    if isinstance(error, _NO_COMMAND):
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    hint = f" Try: {program} --help" if isinstance(error, click.UsageError) else ""
    if isinstance(error, click.UsageError) and error.ctx:
        hint = f" Try: {error.ctx.command_path} --help"
    message = error.format_message().rstrip()
    _fail(message + ("" if message.endswith((".", "?", ")")) else ".") + hint, 2)


def _fail(message: object, code: int) -> NoReturn:
    note(f"error: {one_line(message)}")
    sys.exit(code)


def _debug() -> None:
    if os.environ.get("VAE_DEBUG"):
        import traceback

        traceback.print_exc()
