"""The packages of the `dask` extra: asked for where they are needed, missing in one line."""

from __future__ import annotations

import importlib.util

from ..errors import MissingExtra


def require(*packages: str) -> None:
    """Refuse to go on without these packages.

    Raises:
        MissingExtra: with the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"batch work needs {', '.join(missing)}, not installed here. "
            'Run: pip install "vae-onnx[cpu,dask]"'
        )
