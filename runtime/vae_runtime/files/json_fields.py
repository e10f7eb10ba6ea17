"""Parse untrusted JSON strictly and extract values of the expected types."""

from __future__ import annotations

import json
import sys
from math import isfinite
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

MAX_DEPTH = 64
_LARGEST = sys.float_info.max
_MAX_DIGITS = 309  # of an integer; the largest float64 has as many
_TOO_DEEP = f"It is nested more than {MAX_DEPTH} deep"


class _RefusedError(ValueError):
    """JSON that the format forbids; the message says why."""


def parse_json(raw: bytes | str, where: str) -> Any:
    """Parse JSON (RFC 8259) strictly; refuse text that other JSON parsers may read differently.

    Refused: an encoding other than UTF-8, a byte order mark, duplicate keys, nesting beyond
    `MAX_DEPTH`, NaN and Infinity, numbers outside the range of float64, and lone surrogates.

    Raises:
        InputError: the text is refused; the message begins with `where` and names the reason.
    """
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        value = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            object_pairs_hook=_object_without_duplicates,
        )
        _check_values(value)
    except RecursionError as error:
        raise InputError(f"{where}: not valid JSON. {_TOO_DEEP}.") from error
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON. {_reason(error)}.") from error
    return value


def _reason(error: ValueError) -> str:
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return "A string holds half a surrogate pair"
    if isinstance(error, UnicodeDecodeError):
        return f"Byte {error.start} is not UTF-8. The file is damaged or was edited"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} in line {error.lineno}. The file is damaged or was edited"
    return "The file is damaged or was edited"


def finite(value: Any) -> Any:
    """Copy a value for JSON: arrays become lists, and numbers that are not finite become null."""
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def take(data: object, key: str, kind: type[T], where: str) -> T:
    """Return the value `data[key]`; it must be of type `kind`. A bool does not count as an int.

    Args:
        data: a JSON object.
        key: a required key.
        kind: `str`, `int`, `float`, `list` or `dict`.
        where: the start of the error message.

    Raises:
        InputError: `data` is not an object, the key is missing, or the value has another type.
    """
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(data).__name__}")
    if key not in data:
        raise InputError(f"{where}: '{key}' is missing")
    value = data[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{where}: '{key}' is {type(value).__name__}, expected {kind.__name__}")
    return value


def take_list(data: object, key: str, kind: type[T], where: str) -> tuple[T, ...]:
    """Return `data[key]` as a tuple; it must be a list of values of type `kind`."""
    values: list[Any] = take(data, key, list, where)
    for value in values:
        if type(value) is not kind:  # a bool is an int
            raise InputError(f"{where}: '{key}' must hold {kind.__name__} only")
    return tuple(values)


def take_number(data: object, key: str, where: str) -> float:
    """Return the number `data[key]`; it may be an int, because some languages write 1.0 as 1."""
    whole = isinstance(data, dict) and isinstance(data.get(key), int)
    return float(take(data, key, int if whole else float, where))


def take_array(data: object, key: str, where: str) -> NDArray[np.float64]:
    """Return `data[key]` as an array; it must be a list of numbers or nested lists of equal length.

    Raises:
        InputError: the key is missing, or the lists are ragged or hold anything but numbers.
    """
    values = take(data, key, list, where)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{where}: the lists of {key} are of different lengths") from error
    # NumPy would convert [true, 0.5] to two numbers.
    if array.dtype.kind not in "iuf" or _holds_bool(values):
        raise InputError(f"{where}: {key} must hold numbers only")
    return array.astype(np.float64)


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise _RefusedError(f"The key {twice[:80]!r} occurs twice in one object")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise _RefusedError(f"{word} is not a number in JSON")


def _parse_int(digits: str) -> int:
    """Python's own parser takes quadratic time, and refuses more than 4,300 digits."""
    if len(digits) > _MAX_DIGITS + 1:
        raise _RefusedError(f"An integer of {len(digits)} digits is outside the range of float64")
    return int(digits)


def _check_values(value: Any) -> None:
    """Check depth, numbers and strings, level by level: recursion would hit Python's own limit."""
    level = [[value]]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for values in level:
            numbers = [item for item in values if isinstance(item, (int, float))]
            if max(map(abs, numbers), default=0) > _LARGEST:
                raise _RefusedError("A number is outside the range of float64")
            if len(numbers) == len(values):  # the usual case for long arrays
                continue
            for item in values:
                if isinstance(item, str):
                    item.encode()  # raises UnicodeEncodeError for a lone surrogate
                elif isinstance(item, list):
                    below.append(item)
                elif isinstance(item, dict):
                    below += [item.keys(), item.values()]
        if not below:
            return
        level = below
    raise _RefusedError(_TOO_DEEP)


def _holds_bool(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    return bool in kinds or (list in kinds and any(map(_holds_bool, values)))
