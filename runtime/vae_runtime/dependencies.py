"""Check optional dependencies; report the pip command that installs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .errors import MissingExtra

_NAME = "vae-onnx"


def require(program: str, *packages: str, extra: str = "cpu,train") -> None:
    """Check that the packages of an extra are installed.

    Raises:
        MissingExtra: names the missing packages and the command that installs them.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{program} needs {', '.join(missing)}, not installed here. "
            f"Run: {install_command(extra)}"
        )


def install_command(extra: str) -> str:
    """The pip command that adds an extra, from wherever this package was installed.

    pip records a checkout, a file or a repository in `direct_url.json` (PEP 610), but not an index.
    """
    import json  # imported here, because few callers get this far
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
