"""Check for optional packages and build the pip command that installs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .errors import MissingExtra

_NAME = "vae-onnx"


def require(program: str, *packages: str, extra: str = "cpu,train") -> None:
    """Check that packages are installed.

    Args:
        program: the program that needs them, for the error message.
        packages: names of modules.
        extra: the extras of this package that install them.

    Raises:
        MissingExtra: a package is missing; the message gives the command that installs it.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{program} needs {', '.join(missing)}, not installed here. "
            f"Run: {install_command(extra)}"
        )


def install_command(extra: str) -> str:
    """Return the pip command that adds an extra from this package's original source.

    pip records a checkout, file or repository in `direct_url.json` (PEP 610); a package from an
    index has no such record.
    """
    import json  # imported here because only error messages need it
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        recorded = metadata.distribution(_NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        recorded = None
    origin: dict[str, Any] = json.loads(recorded) if recorded else {"url": ""}
    url = urlsplit(origin["url"])
    path = Path(url2pathname(url.path))
    if url.scheme == "file" and path.exists():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f'pip install {editable}"{path}[{extra}]"'
    if vcs := origin.get("vcs_info"):
        address = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
        return f'pip install "{_NAME}[{extra}] @ {address}"'
    return f'pip install "{_NAME}[{extra}]"'
