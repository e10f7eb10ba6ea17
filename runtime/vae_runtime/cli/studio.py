"""`vae-run studio`: a page about a bundle, computed in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import print_status
from ..errors import FileError

if TYPE_CHECKING:
    from ..studio.build import Parts
    from ..studio.serve import StudioServer

EPILOG = """\b
Examples:
  vae-run studio
  vae-run studio --bundle cvae/ --open
  vae-run studio --bundle cvae/ --out studio.html
  vae-run studio --bundle cvae/ --out site
  vae-run studio --data mnist --out studio.html

\b
A single .html file works offline, from a disk; a folder is for any web server. Without --out the
page is served on 127.0.0.1 until Ctrl-C.
"""
_PORT = 8765


@click.command(epilog=EPILOG)
@click.option("--bundle", "-b", default="mnist", show_default="the embedded mnist",
              help="Folder or .zip that vae-export wrote.")  # fmt: skip
@click.option("--out", "-o", help="Write a single FILE.html, or a folder. - is standard output.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"Of 127.0.0.1; 0 takes a free one. [default: {_PORT}, or a free one]",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option("--data", help="Data set whose encoded test split the map shows (all of it where it "
              "has none): mnist, digits, a folder, .npz, Parquet.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 20_000), default=1000, show_default=True,
              help="Take at most this many images of it.")  # fmt: skip
def command(
    bundle: str, out: str | None, port: int | None, opens: bool, data: str | None, limit: int
) -> None:
    """Make a page of a bundle: sliders, drawing, morphs, maps, all computed in the browser."""
    from .target import FOLDER, Target

    target = Target("studio.html", out)
    if out is not None:
        target.check(".html", ".htm", FOLDER)
    parts = _parts(bundle, data, limit)
    if out is None:
        _serve(parts, port, opens=opens)
    elif target.kind == FOLDER:
        from ..studio.build import write_folder

        print_status(f"wrote {out}, {write_folder(parts, Path(out)):,} bytes")
    else:
        from ..studio.single_file import single_file

        raw = single_file(parts)
        target.put([raw])
        print_status(f"wrote {out}, {len(raw):,} bytes")


def _parts(bundle: str, data: str | None, limit: int) -> Parts:
    from ..bundle.reader import open_bundle
    from ..studio.build import Parts, page_files

    page_files()  # refuse before the work where onnxruntime-web is missing
    opened = open_bundle(bundle)
    name = Path(bundle).name or bundle
    if data is None:
        return Parts(opened, name)
    from ..datasets import load_held_out
    from ..studio.build import encode_points

    image = opened.manifest.spec.image
    images = load_held_out(data, print_status, size=image.shape[1:], mode=image.mode)
    return Parts(opened, name, encode_points(opened, images, limit))


def _serve(parts: Parts, port: int | None, *, opens: bool) -> None:
    from ..studio.build import folder_files

    with _server(folder_files(parts), port) as server:
        print_status(f"serving {server.url} until Ctrl-C")
        if opens:
            import webbrowser

            webbrowser.open(server.url)
        server.serve_forever()


def _server(files: dict[str, bytes], port: int | None) -> StudioServer:
    """A server on the port asked for; without one, on a free port where the usual one is taken."""
    from ..studio.serve import StudioServer

    if port is not None:
        return StudioServer(files, port)
    try:
        return StudioServer(files, _PORT)
    except FileError:
        return StudioServer(files, 0)
