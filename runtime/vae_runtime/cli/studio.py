"""`vae-run studio`: a web page that runs a bundle in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..console import PATH, print_status, track_images
from ..errors import FileError
from . import options

if TYPE_CHECKING:
    from ..studio.build import PageContent

EPILOG = """\b
Examples:
  vae-run studio
  vae-run studio --bundle cvae/ --open
  vae-run studio --bundle cvae/ --out studio.html
  vae-run studio --bundle cvae/ --out site
  vae-run studio --data mnist --out studio.html

\b
A single .html file works offline, opened from disk; a folder can be hosted on
any web server. Without --out, the page is served on 127.0.0.1 until Ctrl-C.
"""
_PORT = 8765


@click.command(epilog=EPILOG)
@options.bundle_argument
@options.bundle
@click.option(
    "--out",
    "-o",
    type=PATH,
    metavar="PATH",
    help="Output: a single .html file or a folder; - is standard output.",
)
@options.integer(
    "--port",
    min=0,
    max=65_535,
    help=f"Port on 127.0.0.1; 0 picks a free one. [default: {_PORT}, or a free one]",
)
@options.flag("--open", "opens", help="Open the page in the browser.")
@click.option("--data", type=PATH, help="Data set for the map of latents: any data that vae-train "
              "reads. Its test split is used if it has one.")  # fmt: skip
@options.integer(
    "--limit", default=1000, max=20_000, help="Take at most this many images of --data."
)
def command(
    bundle: str, out: str | None, port: int | None, opens: bool, data: str | None, limit: int
) -> None:
    """Make an interactive web page that runs a bundle in the browser.

    It has sliders, a drawing canvas, interpolations and a map of the latents.
    """
    output = options.OutputOptions(out=out, default_extension=".html")
    if out is not None:
        output.check(".html", ".htm", options.FOLDER, inputs=(bundle, data))
    content = _content(bundle, data, limit)
    if out is None:
        _serve(content, port, opens=opens)
    elif output.extension == options.FOLDER:
        from ..studio.build import write_folder

        print_status(f"wrote {out}, {write_folder(content, Path(out)):,} bytes")
    else:
        from ..studio.single_file import single_file
        from .output import write_bytes

        raw = single_file(content)
        write_bytes([raw], output)
        print_status(f"wrote {out}, {len(raw):,} bytes")


def _content(bundle: str, data: str | None, limit: int) -> PageContent:
    from ..bundle.reader import open_bundle
    from ..studio.build import PageContent, page_files

    page_files()  # fails early where onnxruntime-web is missing
    opened = open_bundle(bundle)
    name = Path(bundle).name or bundle
    if data is None:
        return PageContent(opened, name)
    from ..datasets import ReadOptions, load_held_out
    from ..studio.build import encode_points

    image = opened.manifest.spec.image
    how = ReadOptions(image.shape[1:], image.mode, track=track_images)
    images = load_held_out(data, print_status, how)
    return PageContent(opened, name, encode_points(opened, images, limit))


def _serve(content: PageContent, port: int | None, *, opens: bool) -> None:
    """Serve on `port` until Ctrl-C; None means the default port, or a free one if that is taken."""
    from ..studio.build import folder_files
    from ..studio.serve import StudioServer

    files = folder_files(content)
    try:
        server = StudioServer(files, _PORT if port is None else port)
    except FileError:
        if port is not None:
            raise
        server = StudioServer(files, 0)
    with server:
        print_status(f"serving {server.url} until Ctrl-C")
        if opens:
            import webbrowser

            webbrowser.open(server.url)
        server.serve_forever()
