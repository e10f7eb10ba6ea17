"""The exceptions of this project and their exit codes.

    VaeError
    ├── UsageError      (ValueError)         2   the call itself is wrong
    ├── MissingExtra    (ImportError)        2   an optional package is not installed
    ├── InputError      (ValueError)         3   input refused: malformed, hostile or unsupported
    ├── IntegrityError  (ValueError)         4   a checksum or the parity check failed
    ├── LimitError      (MemoryError)        5   a documented limit was exceeded
    ├── FileError       (OSError)            6   a file could not be read or written
    │   └── NotFound    (FileNotFoundError)
    ├── DeviceError     (RuntimeError)       7   the requested device is not available
    └── StateError      (RuntimeError)       70  used after close, or cannot be loaded again

Each also derives from the builtin exception that a caller would expect, so ``except ValueError``
works without importing this module. Messages are one line and say what was found, what was
expected, and what to do.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

# C0 and C1 controls, Unicode line breaks and directional marks: malicious file names must not move
# the cursor, recolour the terminal or fake a second line.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_LONGEST = 600


def printable(text: object) -> str:
    """Return ``str(text)`` on a single line, without control characters."""
    return _CONTROLS.sub(" ", str(text))


def escape_controls(text: str) -> str:
    """Return JSON text with all control characters but line feeds written as escapes."""
    return _CONTROLS.sub(
        lambda found: "".join(c if c == "\n" else f"\\u{ord(c):04x}" for c in found[0]), text
    )


def one_line(text: object) -> str:
    """Return ``printable(text)``, truncated to 600 characters."""
    line = printable(text).strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class VaeError(Exception):
    """The base class of this project's errors; commands exit with its `exit_code`."""

    exit_code = 70

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))

    def __str__(self) -> str:
        # OSError and ImportError define a __str__ that may print more than the message.
        return str(self.args[0])


class UsageError(VaeError, ValueError):
    """The call itself is wrong, for example an unknown name or two conflicting options."""

    exit_code = 2


class MissingExtra(VaeError, ImportError):
    """An optional package is not installed; the message gives the `pip install` command."""

    exit_code = 2


class InputError(VaeError, ValueError):
    """The input is malformed, hostile or unsupported."""

    exit_code = 3


class IntegrityError(VaeError, ValueError):
    """Bytes do not match their checksum, or results differ too much from torch's."""

    exit_code = 4


class LimitError(VaeError, MemoryError):
    """A documented limit on size or count was exceeded."""

    exit_code = 5


class FileError(VaeError, OSError):
    """A file could not be read or written; an existing file is left unchanged."""

    exit_code = 6


class NotFound(FileError, FileNotFoundError):
    """There is no file or folder at this path."""


class DeviceError(VaeError, RuntimeError):
    """The requested device is not available."""

    exit_code = 7


class StateError(VaeError, RuntimeError):
    """The object was closed, or cannot be loaded again after a fork or from a pickle."""


def describe_os_error(error: OSError) -> str:
    """Describe an OSError in a few lower-case words, such as `disk full` or `permission denied`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    return (error.strerror or str(error)).lower()


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean epochs?` for the known name closest to `name`; empty if none is."""
    from difflib import get_close_matches  # rarely needed, and slow to import

    near = get_close_matches(name, known, 1)
    return f" Did you mean {near[0]}?" if near else ""
