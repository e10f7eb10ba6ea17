"""`vae-run unpack`: the files of a bundle, in a folder."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import PATH, pluralize, print_json, print_status
from . import options

EPILOG = """\b
Examples:
  vae-run unpack digits-model
  vae-run unpack cvae/ cvae-files --json
"""


@click.command(epilog=EPILOG)
@click.argument("paths", metavar="[BUNDLE] FOLDER", nargs=-1, required=True, type=PATH)
@options.as_json
def command(paths: tuple[str, ...], as_json: bool) -> None:
    """Write the files of a bundle to a new folder.

    BUNDLE is a .zip, a folder or an embedded bundle; the default is the embedded MNIST bundle. The
    checksum of each file is verified. Other programs can then open the .onnx files directly.
    """
    from ..bundle.reader import open_bundle
    from ..errors import FileError, UsageError
    from ..files.atomic import writing_folder

    *sources, target = list(paths)
    if len(sources) > 1:
        raise UsageError(f"{len(paths)} paths, expected a FOLDER, or a BUNDLE and a FOLDER")
    source, folder = sources[0] if sources else "mnist", Path(target)
    bundle = open_bundle(source)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileError(f"{folder}: exists and is not an empty folder. Choose another.")
    files = bundle.read_all() | bundle.read_notes()
    with writing_folder(folder) as new:
        for name, raw in files.items():
            (new / name).write_bytes(raw)
    if as_json:
        print_json({"out": str(folder), "bundle": bundle.manifest.spec.id,
                    "files": {name: len(raw) for name, raw in files.items()}})  # fmt: skip
    else:
        size = sum(map(len, files.values()))
        print_status(f"wrote {pluralize(len(files), 'file')} to {folder}/, {size:,} bytes")
