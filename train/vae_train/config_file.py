"""`vae-train --config run.toml`: the options of a command line, one key each, in a file.

Keys are the options' names without the dashes in front. A value is what would follow the option, a
list for one with commas, true or false for a switch. Options on the command line win.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from vae_runtime.errors import FileError, InputError, NotFound, UsageError

_NOT_IN_FILES = ("config", "resume", "help", "version")


def load_defaults(context: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Callback of `--config`: what the file says becomes the default of each option.

    Raises:
        NotFound: no such file.
        InputError: not TOML.
        UsageError: a key that is no option, or a value of another kind; the message names both.
    """
    if path is not None:
        options = {o.name: o for o in context.command.params if o.name not in _NOT_IN_FILES}
        values = _read(path)
        for key in values:
            if key.replace("-", "_") not in options:
                raise UsageError(f"{path}: unknown key {key!r}{_closest(key, list(options))}")
        context.default_map = {
            key.replace("-", "_"): _plain(path, key, value, options[key.replace("-", "_")])
            for key, value in values.items()
        }
    return path


def to_toml(values: Mapping[str, Any]) -> str:
    """One line for each value that is not None, in their order; `load_defaults` reads it back."""
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
        raise FileError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise InputError(f"{path}: not TOML: {error}") from error


def _closest(key: str, names: list[str | None]) -> str:
    known = sorted(name.replace("_", "-") for name in names if name)
    near = get_close_matches(key.replace("_", "-"), known, 1)
    return f". Did you mean {near[0]}?" if near else f", expected one of {', '.join(known)}"


def _plain(path: Path, key: str, value: Any, option: click.Parameter) -> Any:
    """The value as it would stand on a command line: click then checks both alike."""
    switch = isinstance(option, click.Option) and option.is_flag
    if switch != isinstance(value, bool):
        raise UsageError(
            f"{path}: {key} is {value!r}, expected {'true or false' if switch else 'a value'}"
        )
    if switch:
        return value
    if isinstance(value, list) and all(type(part) in (int, str) for part in value):
        return ",".join(map(str, value))
    if type(value) not in (int, float, str):
        raise UsageError(f"{path}: {key} is {value!r}, expected a number, a text or a list")
    return str(value)


def _literal(value: Any) -> str:
    """A TOML value. JSON's texts and lists are TOML's, but for the DEL character."""
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
