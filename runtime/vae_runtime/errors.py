"""Every error that this project raises on purpose, with the exit code of each.

    VaeError
    ├── UsageError      (ValueError)         2   the call itself is wrong
    ├── MissingExtra    (ImportError)        2   an optional package is not installed
    ├── InputError      (ValueError)         3   input refused: malformed, hostile or unsupported
    ├── IntegrityError  (ValueError)         4   bytes are not what was promised, or parity failed
    ├── LimitError      (MemoryError)        5   a stated limit was reached
    ├── FileError       (OSError)            6   a file could not be read or written
    │   └── NotFound    (FileNotFoundError)
    ├── DeviceError     (RuntimeError)       7   the device asked for is not available
    └── StateError      (RuntimeError)       70  used after close or after fork

Each is also the builtin that a caller would expect, so ``except ValueError`` works without
importing this module. A message is one line: what was seen, what was expected, what to do.
"""

from __future__ import annotations

import errno
import re

# C0 and C1 controls and the Unicode line breaks: a hostile name must not move the cursor, recolour
# the terminal or fake a second line.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")
_LONGEST = 600


def printable(text: object) -> str:
    """``str(text)`` on a single line, without control characters."""
    return _CONTROLS.sub(" ", str(text))


def one_line(text: object) -> str:
    """The same, at most 600 characters."""
    line = printable(text).strip()
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


class VaeError(Exception):
    """The base of the tree; `exit_code` is what the command line exits with."""

    exit_code = 70

    def __init__(self, message: object) -> None:
        super().__init__(one_line(message))

    def __str__(self) -> str:
        # OSError and ImportError have a __str__ of their own; every error here prints its message.
        return str(self.args[0])


class UsageError(VaeError, ValueError):
    """The call is wrong: an unknown name, a number out of its range, two options that clash."""

    exit_code = 2


class MissingExtra(VaeError, ImportError):
    """A package of an optional extra is not installed; the message holds the `pip install`."""

    exit_code = 2


class InputError(VaeError, ValueError):
    """Input was refused: malformed, hostile or unsupported."""

    exit_code = 3


class IntegrityError(VaeError, ValueError):
    """Bytes differ from their recorded digest, or numbers from torch's beyond the tolerance."""

    exit_code = 4


class LimitError(VaeError, MemoryError):
    """A stated limit on size or count was reached."""

    exit_code = 5


class FileError(VaeError, OSError):
    """A file could not be read or written; a previous file was kept."""

    exit_code = 6


class NotFound(FileError, FileNotFoundError):
    """There is no file or folder at this path."""


class DeviceError(VaeError, RuntimeError):
    """The device that was asked for is not available."""

    exit_code = 7


class StateError(VaeError, RuntimeError):
    """The object cannot be used any more: it was closed, or the process was forked."""


def describe_os_error(error: OSError) -> str:
    """What went wrong, in lower case and few words: `disk full`, `permission denied`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    return (error.strerror or str(error)).lower()
