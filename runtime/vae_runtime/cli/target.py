"""Where a result goes: the file of -o, standard output, the terminal, a line of JSON."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click

from ..console import print_json, print_status, write_stdout
from ..errors import FileError, LimitError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
TABLES = (".npy", ".npz", ".csv")
FOLDER = ""  # a name without extension
MAX_PIXELS = 64_000_000  # of one picture: what a viewer still opens


class Target:
    """The options on output that one command was given."""

    FIELDS: ClassVar = ("out", "kind", "as_json", "show", "columns", "scale", "pixel_limit")

    def __init__(
        self,
        default: str,
        out: str | None = None,
        kind: str | None = None,
        as_json: bool = False,
        show: bool = False,
        columns: int | None = None,
        scale: int | None = None,
        pixel_limit: int = MAX_PIXELS,
    ) -> None:
        """Options as click parsed them; `default` is the file without -o and --show."""
        self.out = out if out is not None or show else default
        self.default, self.as_json, self.show = default, as_json, show
        self.columns, self.scale, self.pixel_limit = columns, scale, pixel_limit
        self._kind = None if kind is None else f".{kind.lower().lstrip('.')}"

    @property
    def kind(self) -> str:
        """The type of the output as a file extension; FOLDER for a folder."""
        if self._kind is not None:
            return self._kind
        if self.out in (None, "-"):
            return Path(self.default).suffix
        path = Path(str(self.out))
        return FOLDER if path.is_dir() else path.suffix.lower()

    def check(self, *kinds: str) -> None:
        """Refuse an output that cannot be written, before any work is done.

        Args:
            kinds: the extensions that make sense here.

        Raises:
            UsageError: another type, or two things on standard output.
            FileError: the folder is missing or may not be written.
        """
        if self.out == "":
            raise UsageError("-o is empty, expected a file, a folder or - for standard output")
        if self.kind not in kinds:
            known = " ".join(k for k in kinds if k) + (" or a folder" if FOLDER in kinds else "")
            raise UsageError(f"{self.out}: unknown type {self.kind or '(none)'}, expected {known}")
        if self.out == "-" and self.as_json:
            raise UsageError("-o - and --json both want standard output. Give -o a file.")
        if self.out in (None, "-"):
            return
        self._check_name(Path(str(self.out)))
        folder = Path(str(self.out)).parent
        if not folder.is_dir():
            raise FileError(f"{self.out}: there is no folder {folder}. Make it first.")
        if not os.access(folder, os.W_OK):
            raise FileError(f"{self.out}: folder {folder} may not be written")

    def _check_name(self, path: Path) -> None:
        """Refuse a file where a folder is meant, the reverse, and a name that says another type."""
        if self.kind == FOLDER and path.exists() and not path.is_dir():
            raise FileError(f"{path}: a file; a name without an extension means a folder")
        if self.kind != FOLDER and path.is_dir():
            raise FileError(f"{path}: a folder, expected a file for {self.kind}")
        named, kind = (".jpg" if x == ".jpeg" else x for x in (path.suffix.lower(), self.kind))
        if named in (*PICTURES, *TABLES) and named != kind:
            raise UsageError(f"{path}: --format {kind[1:]} contradicts the name. Leave it out.")

    def put(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Bytes to the file, atomically, or to standard output, piece by piece.

        Raises:
            FileError: no space, no permission; a previous file was kept.
        """
        if self.out == "-":
            write_stdout(pieces)
            return
        from ..files.atomic import writing
        from ..files.streaming import write_pieces

        with writing(Path(str(self.out))) as temporary:
            write_pieces(temporary, pieces)

    def check_pixels(self, n: int, height: int, width: int) -> None:
        """Refuse to draw `n` cells of so many pixels.

        Raises:
            LimitError: with what to do instead.
        """
        pixels = n * height * width
        if pixels > self.pixel_limit:
            raise LimitError(
                f"a picture of {n:,} images would have {pixels:,} pixels, limit "
                f"{self.pixel_limit:,}. Write .npy, .npz, .csv or a folder, or say --pixel-limit."
            )

    def draw(self, images: NDArray[Any], columns: int) -> None:
        """With --show, draw images [N, C, H, W] in the terminal."""
        if not self.show:
            return
        from ..images import grid
        from .terminal import draw

        # Standard output is the payload's or the JSON's where one of them is asked for.
        stream = sys.stderr if self.out == "-" or self.as_json else sys.stdout
        click.echo(draw(grid(images, columns), stream), file=stream, color=True)

    def screen(self) -> Target:
        """Take --show away, as a target of its own that writes no file."""
        shown = copy.copy(self)
        shown.out, self.show = None, False
        return shown

    def report(self, text: str, **facts: Any) -> None:
        """The closing line: words on standard error, or the facts as JSON on standard output."""
        if self.as_json:
            print_json({"out": self.out, **facts})
        else:
            print_status(text if self.out is None else f"wrote {text}")
