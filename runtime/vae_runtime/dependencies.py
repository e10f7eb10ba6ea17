"""Packages of an extra: asked for where they are needed, missing in one line with the command."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .errors import MissingExtra

_NAME = "vae-onnx"


def require(program: str, *packages: str, extra: str = "cpu,train") -> None:
    """Refuse to go on without the packages of an extra.

    Raises:
        MissingExtra: with the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{program} needs {', '.join(missing)}, not installed here. Run: {install(extra)}"
        )


def install(extra: str) -> str:
    """The command that adds an extra, from where this package came: a checkout, a file, an index.

    pip keeps the place in `direct_url.json` (PEP 610), and keeps none for what an index served.
    """
    import json  # here, since batch work and the trainer read this module and seldom miss a package
    from importlib import metadata
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        kept = metadata.distribution(_NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        kept = None
    origin: dict[str, Any] = json.loads(kept) if kept else {"url": ""}
    url = urlsplit(origin["url"])
    path = Path(url2pathname(url.path))
    if url.scheme == "file" and path.exists():
        editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
        return f'pip install {editable}"{path}[{extra}]"'
    if vcs := origin.get("vcs_info"):
        address = f"{vcs['vcs']}+{origin['url']}@{vcs['commit_id']}"
        return f'pip install "{_NAME}[{extra}] @ {address}"'
    return f'pip install "{_NAME}[{extra}]"'
