"""How every command starts and ends: one line on an error, the fitting exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from .errors import FileError, UsageError, VaeError, one_line

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
        discard_stdout()  # the reader of our output went away, as `| head` does
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


def reserve_stdout() -> None:
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


def discard_stdout() -> None:
    """Let what is still buffered for standard output vanish: Python would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_status(message: object) -> None:
    """One line for the person at the terminal, on standard error."""
    click.echo(one_line(message), err=True)


def pluralize(n: int, noun: str, nouns: str = "") -> str:
    """`1 code`, `1,000 latents`."""
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
    print_status(f"error: {one_line(message)}")
    sys.exit(code)


def _debug() -> None:
    if os.environ.get("VAE_DEBUG"):
        import traceback

        traceback.print_exc()


T = TypeVar("T")
_PATIENCE_S = 1.0
_EVERY_S = 0.1


def progress(chunks: Iterable[T], total: int, each: int, what: str = "images") -> Iterator[T]:
    """Pass `chunks` of `each` items through; say how far it is once a second has passed.

    Args:
        chunks: the work.
        total: items in all.
        each: items in a chunk.
        what: the items' name.
    """
    if not sys.stderr.isatty():
        yield from chunks
        return
    started = last = time.monotonic()
    shown = False
    try:
        for i, chunk in enumerate(chunks):
            yield chunk
            now = time.monotonic()
            if now - started > _PATIENCE_S and now - last > _EVERY_S:
                done = min(total, (i + 1) * each)
                rate = done / (now - started)
                sys.stderr.write(f"\r{done:,} of {total:,} {what}, {rate:,.0f}/s\x1b[K")
                sys.stderr.flush()
                last, shown = now, True
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse HxW, height first: `64x48` → (64, 48).

    Raises:
        UsageError: the text is something else.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(is_small_integer(part) and int(part) > 0 for part in parts):
        raise UsageError(f"size {text!r}: expected HxW, for example 64x64")
    return int(parts[0]), int(parts[1])


def is_small_integer(text: str) -> bool:
    """Whether the text is a whole number of at most five digits."""
    return text.isdecimal() and len(text) <= 5


size_option = click.option("--size", help="Resize image files to HxW, for example 64x64.")


def check_parent_folder(path: Path) -> None:
    """Refuse an output path whose folder is missing or read-only.

    Raises:
        FileError: with what to do.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileError(f"{path}: there is no folder {folder}. Create it first.")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{path}: folder {folder} is not writable")
