"""Packages of an extra: asked for where they are needed, missing in one line."""

from __future__ import annotations

import importlib.util

from .errors import MissingExtra


def require(program: str, *packages: str, extra: str = "cpu,train") -> None:
    """Refuse to go on without the packages of an extra.

    Raises:
        MissingExtra: with the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{program} needs {', '.join(missing)}, not installed here. "
            f'Run: pip install "vae-onnx[{extra}]"'
        )
