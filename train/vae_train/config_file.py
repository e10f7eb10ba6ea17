"""`vae-train --config run.toml`: command-line options from a TOML file.

The keys are the names of the options without the leading dashes. Each value is what would follow
the option on the command line, except that comma-separated values are written as a list, and flags
as true or false. Options on the command line override those in the file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vae_runtime.errors import (
    FileError,
    InputError,
    NotFound,
    UsageError,
    describe_os_error,
    suggest,
)

_NOT_IN_FILES = ("config", "resume", "help", "version")


def load_defaults(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Use the values in the file as defaults of the options; this is the callback of `--config`.

    Raises:
        NotFound: there is no such file.
        InputError: the file is not TOML.
        UsageError: a key is not an option, or a value has the wrong type; the message names the
            key.
    """
    if path is not None:
        options = {o.name: o for o in context.command.params if o.name not in _NOT_IN_FILES}
        values = _read(path)
        for key in values:
            if key.replace("-", "_") not in options:
                raise UsageError(f"{path}: unknown key {key!r}{_closest(key, list(options))}")
        context.default_map = {
            key.replace("-", "_"): _as_typed(path, key, value, options[key.replace("-", "_")])
            for key, value in values.items()
        }
    return path


def to_toml(values: Mapping[str, Any]) -> str:
    """Format the values for `load_defaults`, in order, one per line; skip values that are None."""
    lines = [
        f"{key.replace('_', '-')} = {_literal(v)}" for key, v in values.items() if v is not None
    ]
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such config file") from error
    except OSError as error:
        raise FileError(f"{path}: {describe_os_error(error)}") from error
    except ValueError as error:  # invalid TOML or UTF-8
        raise InputError(f"{path}: invalid TOML: {error}") from error


def _closest(key: str, names: list[str | None]) -> str:
    known = sorted(name.replace("_", "-") for name in names if name)
    hint = suggest(key.replace("_", "-"), known)
    return f".{hint}" if hint else f", expected one of {', '.join(known)}"


def _as_typed(path: Path, key: str, value: Any, option: click.Parameter) -> Any:
    """Convert a value to the text a user would type, so that click validates it the same way."""
    flag = isinstance(option, click.Option) and option.is_flag
    if flag != isinstance(value, bool):
        expected = "true or false" if flag else "a value"
        raise UsageError(f"{path}: {key} is {value!r}, expected {expected}")
    if flag:
        return value
    if isinstance(value, list) and all(type(item) in (int, str) for item in value):
        return ",".join(map(str, value))
    if type(value) not in (int, float, str):
        raise UsageError(f"{path}: {key} is {value!r}, expected a number, a string or a list")
    return str(value)


def _literal(value: Any) -> str:
    """Format a value as JSON, which is also valid TOML once any DEL character is escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
