"""Writing a bundle: into a temporary folder beside the target, then one rename."""

from __future__ import annotations

from pathlib import Path

from vae_runtime.archive import pack
from vae_runtime.errors import FileError
from vae_runtime.files import write_atomic, writing_folder
from vae_runtime.manifest import NAME, Manifest


def write_bundle(manifest: Manifest, files: dict[str, bytes], out: Path) -> None:
    """Write all files and the manifest to `out`, a folder or a `.zip`.

    A previous bundle at `out` is replaced in the end and kept on any failure; anything else there
    is never touched.

    Raises:
        FileError: `out` is not a bundle and not empty, or cannot be written.
    """
    content = {NAME: manifest.to_bytes(), **files}
    if out.suffix == ".zip":
        write_atomic(out, pack(content))
        return
    check_target(out)
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
    if out.suffix == ".zip" or not out.exists():
        return
    if not out.is_dir() or (any(out.iterdir()) and not (out / NAME).is_file()):
        raise FileError(f"{out}: exists and is not a bundle. Choose another --out.")
