"""Rewrite the checksums of bundles: `python tests/security/rechecksum.py ZIP...`.

This updates the sizes and checksums in each graph, in the manifest and in its list of files. It
always gives the same bytes, and does not change a bundle whose checksums are correct.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum
from vae_runtime.bundle.manifest import NAME, Manifest

Files = dict[str, bytes]


def read_files(path: Path) -> Files:
    """Return the files of a zip in their order."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def with_checksums(files: Files, manifest: dict[str, Any] | None = None) -> Files:
    """Return the files with correct sizes and checksums, in the same order."""
    files = {
        name: graph_with_checksum(raw) if name.endswith(".onnx") else raw
        for name, raw in files.items()
    }
    data = json.loads(files[NAME]) if manifest is None else dict(manifest)
    data.pop("sha256", None)
    for spec in (*(data.get("graphs") or ()), data.get("golden")):
        # A test may have replaced them by anything.
        raw = files.get(spec.get("file")) if isinstance(spec, dict) else None
        if raw is not None:
            spec |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    text = json.dumps(data, indent=1, ensure_ascii=False).encode() + b"\n"
    return files | {NAME: manifest_with_checksum(text)}


def rechecksum(path: Path) -> None:
    """Rewrite one zip in place."""
    files = with_checksums(read_files(path))
    manifest = Manifest.from_bytes(files[NAME], str(path))
    path.write_bytes(pack(files | {NAME: manifest.to_bytes()}))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rechecksum(Path(argument))
