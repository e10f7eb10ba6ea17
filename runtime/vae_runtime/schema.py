"""Reading JSON from strangers: each value is taken with the type it must have, or refused."""

from __future__ import annotations

from typing import Any, TypeVar

from .errors import InputError

T = TypeVar("T")


def take(data: object, key: str, kind: type[T], where: str) -> T:
    """`data[key]`, which must be a `kind`; `where` begins the error message.

    Raises:
        InputError: `data` is no object, the key is missing, or the value is of another type.
    """
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(data).__name__}")
    if key not in data:
        raise InputError(f"{where}: '{key}' is missing")
    value = data[key]
    # bool is an int to Python; nothing here is either.
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: '{key}' is {type(value).__name__}, expected {kind.__name__}")
    return value


def take_list(data: object, key: str, kind: type[T], where: str) -> tuple[T, ...]:
    """`data[key]`, which must be a list of `kind`."""
    values: list[Any] = take(data, key, list, where)
    for value in values:
        if not isinstance(value, kind):
            raise InputError(f"{where}: '{key}' must hold {kind.__name__} only")
    return tuple(values)
