"""Console code shared by vae-run, vae-train and vae-export: errors, exit codes, output, options.

It imports nothing but click and the errors, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from .errors import FileError, UsageError, VaeError, describe_os_error, one_line

T = TypeVar("T")

INTERRUPTED = 130
BUG = 70
# Since click 8.2, a group called without a command raises this; earlier versions printed help.
_NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())
_PROGRESS_AFTER_S = 1.0
_PROGRESS_EVERY_S = 0.1

size_option = click.option("--size", help="Resize image files to HxW, for example 64x64.")


class InterruptError(Exception):
    """Raised on Ctrl-C; click prints an empty line for KeyboardInterrupt, but not for this."""


# Start and end of a program


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command and exit; print any error as one line on standard error.

    With VAE_DEBUG=1 in the environment, print the traceback too.
    """
    try:
        code = command.main(prog_name=program, standalone_mode=False)
        if sys.stdout is not None:  # None if it was closed, for example with `>&-`
            sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, click.Abort, InterruptError):
        _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        _fail_usage(error, program)
    except VaeError as error:
        _print_traceback_if_asked()
        _fail(error, error.exit_code)
    except BrokenPipeError:
        discard_stdout()  # the reader needs no more, as in `| head`
        sys.exit(0)
    except OSError as error:
        _print_traceback_if_asked()
        _fail(f"{error.filename or 'output'}: {describe_os_error(error)}", 6)
    except MemoryError:
        _fail("out of memory. Use fewer or smaller images at a time.", 5)
    except Exception as error:  # noqa: BLE001 - users must never see a bare traceback
        _print_traceback_if_asked()
        _fail(f"{type(error).__name__}: {error}. This is a bug; VAE_DEBUG=1 shows where.", BUG)
    # click returns the exit code given to `ctx.exit`, or the command's return value.
    sys.exit(code if isinstance(code, int) else 0)


def exit_now(code: object) -> NoReturn:
    """Flush the streams and end the process without shutting down the interpreter.

    Unloading numpy and onnxruntime takes 60 of the 300 ms of CPU time that `vae-run sample` uses.
    Exit handlers do not run, so programs that register one must not call this.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed stream is None
            stream.flush()
    os._exit(code if isinstance(code, int) else 0)


def _fail_usage(error: click.ClickException, program: str) -> NoReturn:
    """Print the error and a hint to run `--help`; without a subcommand, print the full help."""
    if isinstance(error, _NO_COMMAND):
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    hint = ""
    if isinstance(error, click.UsageError):
        hint = f" Try: {error.ctx.command_path if error.ctx else program} --help"
    message = error.format_message().rstrip()
    _fail(message + ("" if message.endswith((".", "?", ")")) else ".") + hint, 2)


def _fail(message: object, code: int) -> NoReturn:
    print_status(f"error: {one_line(message)}")
    sys.exit(code)


def _print_traceback_if_asked() -> None:
    if os.environ.get("VAE_DEBUG"):
        import traceback

        traceback.print_exc()


# Standard output and standard error


def reserve_stdout() -> None:
    """Reserve standard output for the results of a command.

    onnxruntime and CUDA libraries print to file descriptor 1. This function redirects it to
    standard error and makes `sys.stdout` write to a duplicate of the original descriptor.
    """
    try:
        original = os.dup(1)
        os.dup2(2, 1)
    except OSError:
        return  # one of them is closed, so there is nothing to separate
    previous = sys.stdout
    encoding = getattr(previous, "encoding", None)
    errors = getattr(previous, "errors", None)
    sys.stdout = open(original, "w", encoding=encoding, errors=errors)  # noqa: PTH123, SIM115


def discard_stdout() -> None:
    """Discard buffered output that Python could not write at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_stdout(parts: Iterable[bytes | memoryview]) -> None:
    """Write bytes to standard output, one part after another.

    Raises:
        FileError: standard output cannot be written to.
    """
    try:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # click would exit with 1, but a reader that needs no more is not an error.
        discard_stdout()
        raise click.exceptions.Exit(0) from None
    except FileError:
        raise
    except OSError as error:
        discard_stdout()
        raise FileError(f"standard output: {describe_os_error(error)}") from error


def print_json(value: Any) -> None:
    """Print one JSON document to standard output; arrays become lists, NaN becomes null."""
    from .files.json_fields import finite

    text = json.dumps(finite(value), ensure_ascii=False, indent=1)
    write_stdout([f"{text}\n".encode(errors="backslashreplace")])


def print_status(message: object) -> None:
    """Print one line for the user on standard error."""
    click.echo(one_line(message), err=True)


def pluralize(n: int, noun: str, nouns: str = "") -> str:
    """Format a count, such as `1 latent` or `1,000 latents`; `nouns` is an irregular plural."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def progress(
    batches: Iterable[T], total: int, batch_size: int, noun: str = "images"
) -> Iterator[T]:
    """Yield batches of images; on a terminal, show progress and the time left after one second.

    Args:
        batches: what to yield.
        total: number of images in all batches.
        batch_size: number of images per batch.
        noun: what is counted.
    """
    if not sys.stderr.isatty():
        yield from batches
        return
    started = last = time.monotonic()
    shown = False
    try:
        for i, items in enumerate(batches):
            yield items
            now = time.monotonic()
            if now - started > _PROGRESS_AFTER_S and now - last > _PROGRESS_EVERY_S:
                done = min(total, (i + 1) * batch_size)
                rate = done / (now - started)
                left = _duration((total - done) / rate)
                speed = f"{rate:,.0f}/s, " if rate >= 1 else ""
                sys.stderr.write(f"\r{done:,} of {total:,} {noun}, {speed}{left} left\x1b[K")
                sys.stderr.flush()
                last, shown = now, True
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    """Format a time, such as `9 s` or `2 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s" if minutes else f"{rest} s"


# Options


def given_options() -> dict[str, str]:
    """Map each parameter given on the command line to its option, such as `size` to `--size`."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return {
        param.name: max(param.opts, key=len)
        for param in context.command.params
        if param.name and context.get_parameter_source(param.name) == typed
    }


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse HxW, height first: `64x48` → (64, 48).

    Raises:
        UsageError: the text does not have this form.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(is_small_integer(part) and int(part) > 0 for part in parts):
        raise UsageError(f"size {text!r}: expected HxW, for example 64x64")
    return int(parts[0]), int(parts[1])


def is_small_integer(text: str) -> bool:
    """Return whether the text is an integer of one to five digits without a sign."""
    return text.isdecimal() and len(text) <= 5


def check_output_file(path: str | Path, extensions: Collection[str]) -> None:
    """Check that an output file can be written, before any work is done.

    Args:
        path: the file to write.
        extensions: the accepted extensions, for example `(".html", ".htm")`.

    Raises:
        UsageError: the file has a different extension.
        FileError: the path is a folder, or its parent folder is missing or read-only.
    """
    path = Path(path)
    extension = path.suffix.lower()
    if extension not in extensions:
        expected = " ".join(extensions)
        raise UsageError(f"{path}: unknown type {extension or '(none)'}, expected {expected}")
    if path.is_dir():
        raise FileError(f"{path}: a folder, expected a file of type {extension}")
    check_parent_folder(path)


def check_parent_folder(path: Path) -> None:
    """Check that the parent folder of an output path exists and is writable.

    Raises:
        FileError: the folder is missing or read-only.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileError(f"{path}: there is no folder {folder}. Create it first.")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{path}: folder {folder} is not writable")
