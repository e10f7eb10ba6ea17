"""Writing a bundle: into a temporary folder beside the target, then one rename."""

from __future__ import annotations

from pathlib import Path

from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.errors import FileError, VaeError
from vae_runtime.files.atomic import write_atomic, writing_folder


def write_bundle(manifest: Manifest, files: dict[str, bytes], out: Path) -> None:
    """Write all files and the manifest to `out`, a folder or a `.zip`.

    A previous bundle at `out` is replaced in the end and kept on any failure; anything else there
    is never touched.

    Raises:
        FileError: `out` is not a bundle and not empty, or cannot be written.
    """
    content = {NAME: manifest.to_bytes(), **files}
    check_target(out)
    if out.suffix == ".zip":
        write_atomic(out, pack(content))
        return
    with writing_folder(out) as folder:
        for name, raw in content.items():
            (folder / name).write_bytes(raw)


def check_target(out: Path) -> None:
    """Refuse to replace anything but a bundle or an empty folder.

    Raises:
        FileError: what stands in the way.
    """
    if not out.parent.is_dir():
        raise FileError(f"{out}: folder {out.parent} is missing")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not _is_bundle(out):
        raise FileError(
            f"{out}: exists and is not a bundle alone. Move it away, or choose another --out."
        )


def _is_bundle(path: Path) -> bool:
    """Whether all that would be replaced is a bundle: its manifest names every file."""
    try:
        # Absolute, so that it is no embedded bundle's name.
        files = open_bundle(path.absolute()).manifest.files()
    except VaeError:
        return False
    return path.is_file() or {p.name for p in path.iterdir()} <= {*files, NAME, ".DS_Store"}
