"""Write bundles anew with the digests that they carry: `python tests/security/restamp.py ZIP...`.

For bundles of an older export: each graph gets its seal, the manifest its files' sizes and sha256
and its own. The same bundle always gives the same bytes; a whole one is left as it is.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum
from vae_runtime.bundle.manifest import NAME, Manifest


def read_files(path: Path) -> dict[str, bytes]:
    """Every file of a zip, in its order."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def folder_of(files: dict[str, bytes], change: Callable[[Path], object]) -> Callable[[Path], None]:
    """What makes a folder of the files, and then changes it, at a path that is not there yet."""

    def make(path: Path) -> None:
        path.mkdir()
        for name, raw in files.items():
            (path / name).write_bytes(raw)
        change(path)

    return make


def signed(files: dict[str, bytes], manifest: dict[str, Any] | None = None) -> dict[str, bytes]:
    """The files with every digest right, whatever they hold; the order stays."""
    files = {
        name: graph_with_checksum(raw) if name.endswith(".onnx") else raw
        for name, raw in files.items()
    }
    data = json.loads(files[NAME]) if manifest is None else dict(manifest)
    data.pop("sha256", None)
    for spec in (*(data.get("graphs") or ()), data.get("golden")):
        # A lie may have put anything in its place.
        raw = files.get(spec.get("file")) if isinstance(spec, dict) else None
        if raw is not None:
            spec |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    text = json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"
    return files | {NAME: manifest_with_checksum(text)}


def restamp(path: Path) -> None:
    """One zip, in place."""
    files = signed(read_files(path))
    manifest = Manifest.from_bytes(files[NAME], str(path))
    path.write_bytes(pack(files | {NAME: manifest.to_bytes()}))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        restamp(Path(argument))
