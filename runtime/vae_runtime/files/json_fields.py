"""Reading JSON from strangers: each value is taken with the type it must have, or refused."""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, NoReturn, TypeVar

from ..errors import InputError

T = TypeVar("T")


def parse_json(raw: bytes | str, message: str) -> Any:
    """Plain values; NaN and Infinity, which Python would take, are no JSON.

    Raises:
        InputError: `message`.
    """
    try:
        return json.loads(raw, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise InputError(message) from error


def finite(value: Any) -> Any:
    """Plain values for JSON; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


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


def take_number(data: object, key: str, where: str) -> float:
    """`data[key]`, a number with or without a fraction: other languages write 1.0 as 1."""
    whole = isinstance(data, dict) and isinstance(data.get(key), int)
    return float(take(data, key, int if whole else float, where))


def _no_json(word: str) -> NoReturn:
    raise ValueError(word)
