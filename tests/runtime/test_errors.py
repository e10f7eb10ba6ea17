"""Exceptions: base classes, exit codes, and messages of one printable line."""

from __future__ import annotations

import pytest

from vae_runtime import errors
from vae_runtime.errors import (
    DeviceError,
    FileError,
    InputError,
    IntegrityError,
    LimitError,
    MissingExtra,
    NotFound,
    StateError,
    UsageError,
    VaeError,
    one_line,
)

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize(
    ("error", "builtin", "code"),
    [
        (UsageError, ValueError, 2),
        (MissingExtra, ImportError, 2),
        (InputError, ValueError, 3),
        (IntegrityError, ValueError, 4),
        (LimitError, MemoryError, 5),
        (FileError, OSError, 6),
        (NotFound, FileNotFoundError, 6),
        (DeviceError, RuntimeError, 7),
        (StateError, RuntimeError, 70),
    ],
)
def test_each_error_is_the_builtin_a_caller_expects_and_has_its_exit_code(
    error: type[VaeError], builtin: type[Exception], code: int
) -> None:
    assert error.exit_code == code
    with pytest.raises(builtin, match=r"^message$"):
        raise error("message")
    with pytest.raises(VaeError):
        raise error("message")


def test_the_module_docstring_lists_every_error() -> None:
    defined = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, VaeError) and value is not VaeError
    }
    assert errors.__doc__ is not None
    assert all(name in errors.__doc__ for name in defined)
    assert issubclass(NotFound, FileError)


@pytest.mark.parametrize(
    "hostile",
    [
        "a\nb",
        "a\r\nb",
        "a\x1b[31mb",
        "a\x00b",
        "a\x07b",
        "a\x9b31mb",
        "a\u2028b",
        "a\u2029b",
        "a\u202eb",
        "a\u2066b",
        "a\x7fb",
    ],
)
def test_a_message_is_one_line_without_control_characters(hostile: str) -> None:
    assert str(InputError(hostile)).startswith("a ")
    assert str(InputError(hostile)).endswith("b")
    assert one_line(hostile).isprintable()


def test_a_message_is_truncated_to_600_characters() -> None:
    assert one_line("x" * 600) == "x" * 600
    assert one_line("x" * 601) == "x" * 599 + "…"


def test_a_message_may_be_any_object() -> None:
    assert str(FileError(ValueError("inner"))) == "inner"
