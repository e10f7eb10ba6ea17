"""Console code shared by vae-run, vae-train and vae-export: errors, exit codes, output, options.

It imports nothing but click and the errors, so that `--help` is instant.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from .errors import (
    FileError,
    UsageError,
    VaeError,
    describe_os_error,
    escape_controls,
    one_line,
)

T = TypeVar("T")

INTERRUPTED = 130
BUG = 70
# Since click 8.2, a group called without a command raises this; earlier versions printed help.
_NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())
_json_printed = True  # whether no JSON document is due any more
_PROGRESS_AFTER_S = 1.0
_PROGRESS_EVERY_S = 0.1

_QUIET = "vae_runtime.quiet"  # a key of click's `Context.meta`

# Classes of normal images, as data sets for anomaly detection name them.
NORMAL_NAMES = ("good", "normal", "ok", "nominal")

# Values that shells complete to names of files and folders; `-` is a stream.
PATH = click.Path(allow_dash=True)
size_option = click.option("--size", help="Resize image files to HxW, for example 64x64.")


def _set_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


quiet_option = click.option(
    "--quiet", "-q", is_flag=True, expose_value=False, callback=_set_quiet,
    help="Print nothing but results and errors.",
)  # fmt: skip


# Start and end of a program


def run(command: click.Command, program: str) -> NoReturn:
    """Run a click command and exit; print any error as one line on standard error.

    With VAE_DEBUG=1 in the environment, print the traceback too. With --json among the arguments,
    also print the error as JSON to standard output, unless a JSON document has been printed.
    """
    global _json_printed
    _json_printed = "--json" not in sys.argv
    try:
        code = _invoke(command, program)
        if sys.stdout is not None:  # None if it was closed, for example with `>&-`
            sys.stdout.flush()
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted", INTERRUPTED, "KeyboardInterrupt")
    except click.ClickException as error:
        _fail_usage(error, program)
    except BrokenPipeError:
        _end_of_pipe()
    except Exception as error:  # noqa: BLE001 - users must never see a bare traceback
        if os.environ.get("VAE_DEBUG"):
            import traceback

            traceback.print_exc()
        _fail(*_describe(error))
    # click returns the exit code given to `ctx.exit`, or the command's return value.
    sys.exit(code if isinstance(code, int) else 0)


def _invoke(command: click.Command, program: str) -> object:
    """Parse the arguments and run the command.

    Unlike click's `main`, this raises BrokenPipeError and KeyboardInterrupt as they are.
    """
    completing = f"_{program.replace('-', '_').upper()}_COMPLETE" in os.environ
    if completing or sys.platform == "win32":  # only `main` expands patterns such as *.png there
        return command.main(prog_name=program, standalone_mode=False)
    with command.make_context(program, sys.argv[1:]) as context:
        return command.invoke(context)


def _describe(error: Exception) -> tuple[object, int, str]:
    """Return the message, the exit code and the kind of an error."""
    kind = type(error).__name__
    if isinstance(error, VaeError):
        return error, error.exit_code, kind
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {describe_os_error(error)}", 6, "FileError"
    if isinstance(error, MemoryError):
        return "out of memory. Use fewer or smaller images at a time.", 5, "LimitError"
    return f"{kind}: {error}. This is a bug; VAE_DEBUG=1 shows where.", BUG, kind


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
    _fail(message + ("" if message.endswith((".", "?", ")")) else ".") + hint, 2, "UsageError")


def _fail(message: object, code: int, kind: str) -> NoReturn:
    click.echo(one_line(f"error: {one_line(message)}"), err=True)
    if not _json_printed:
        print_json({"error": {"type": kind, "message": one_line(message), "exit_code": code}})
    sys.exit(code)


def _end_of_pipe() -> NoReturn:
    """End the program because the reader of its output needs no more, as in `| head`."""
    discard_stdout()
    sys.exit(0)


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
    global _json_printed
    _json_printed = True
    from .files.json_fields import finite

    # JSON itself escapes only some of the characters that could change what a terminal shows.
    text = escape_controls(json.dumps(finite(value), ensure_ascii=False, indent=1))
    write_stdout([f"{text}\n".encode(errors="backslashreplace")])


def print_status(message: object) -> None:
    """Print one line for the user on standard error, except with --quiet."""
    if not _is_quiet():
        click.echo(one_line(message), err=True)


def _is_quiet() -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_QUIET))


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
    if sys.stderr is None or not sys.stderr.isatty() or _is_quiet():
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
                left = format_duration((total - done) / rate)
                speed = f"{rate:,.0f}/s, " if rate >= 1 else ""
                line = f"{done:,} of {total:,} {noun}, {done / total:.0%}, {speed}{left} left"
                sys.stderr.write(f"\r{line}\x1b[K")
                sys.stderr.flush()
                last, shown = now, True
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def format_duration(seconds: float) -> str:
    """Format a duration in two units at most, such as `42 s`, `3 min 5 s` or `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60:,} h {minutes % 60} min"


def track_images(files: Iterable[T], total: int) -> Iterator[T]:
    """Yield image files; on a terminal, show progress after one second."""
    return progress(files, total, 1)


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


class Percent(click.ParamType[float]):
    """A fraction, such as `0.01` or `1%`."""

    name = "fraction"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Parse the fraction."""
        text = str(value)
        try:
            found = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            found = 0.0
        if not 0 < found < 1:
            self.fail(f"{text!r}: expected a fraction such as 1% or 0.01", param, ctx)
        return found


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
        UsageError: the path is a URL.
        FileError: the folder is missing or read-only.
    """
    if re.fullmatch(r"[A-Za-z][\w+.-]+:", path.parts[0] if path.parts else ""):
        raise UsageError(f"{path}: a URL, expected a path. Only vae-run batch writes to URLs.")
    folder = path.parent
    if not folder.is_dir():
        raise FileError(f"{path}: there is no folder {folder}. Create it first.")
    if not os.access(folder, os.W_OK):
        raise FileError(f"{path}: folder {folder} is not writable")
