"""Where a graph comes from, so that it can be read again: after a fork, or from a pickle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from .bundle.checksums import verify_graph
from .bundle.spec import METADATA_KEY
from .errors import InputError, IntegrityError, StateError
from .files.reading import read_bytes
from .graph_checks import GraphContents, check_graph

if TYPE_CHECKING:
    from .bundle.reader import Bundle
    from .bundle.spec import GraphSpec

Origin: TypeAlias = Union[Path, bytes, "tuple[Bundle, GraphSpec]", None]


@dataclass(frozen=True)
class GraphSource:
    """The source of one graph; a pickle holds it with its checksum.

    Attributes:
        where: the graph's name for error messages.
        origin: a path, the bytes, a graph of an open bundle, or None for an onnxruntime
            session, which can be neither read again nor pickled.
        sha256: checksum of the file when it was first read; empty before.
    """

    where: str
    origin: Origin
    sha256: str = ""

    @classmethod
    def of(cls, source: Any, known: tuple[Bundle, GraphSpec] | None = None) -> GraphSource:
        """Return the source of a graph, given the arguments of `Graph`."""
        if known is not None:
            return cls(f"{known[0].name}/{known[1].file.file}", known)
        if isinstance(source, bytes):
            return cls("graph", source)
        if hasattr(source, "get_inputs"):
            return cls("graph", None)
        return cls(str(source), Path(source))

    def read(self) -> bytes:
        """Read the graph.

        Raises:
            NotFound: the file does not exist.
            IntegrityError: the file or the bundle has been replaced since it was first read.
            StateError: there is no file to read, because the graph was an onnxruntime session.
        """
        if isinstance(self.origin, bytes):
            return self.origin
        if isinstance(self.origin, tuple):
            return self.origin[0].read(self.origin[1].file)
        if self.origin is None:
            raise StateError(
                "this graph was made from an onnxruntime session and cannot be loaded again. "
                "Make it from the file."
            )
        raw = read_bytes(self.origin, "Expected an .onnx file of a bundle.")
        if self.sha256 and hashlib.sha256(raw).hexdigest() != self.sha256:
            raise IntegrityError(f"{self.where}: replaced since it was loaded. Load it again.")
        return raw

    def pinned(self, raw: bytes) -> GraphSource:
        """Return the source of a file with its absolute path and the checksum of `raw`."""
        if not isinstance(self.origin, Path):
            return self
        checksum = hashlib.sha256(raw).hexdigest()
        return replace(self, origin=self.origin.absolute(), sha256=checksum)


def read_graph(path: str | Path) -> GraphContents:
    """Read and check a single `.onnx` file without onnxruntime, so that nothing in it runs.

    Raises:
        NotFound: the file does not exist.
        InputError: the file was not written by vae-export, or has harmful content.
        IntegrityError: the bytes have changed since they were written.
    """
    return check_bytes(GraphSource.of(path).read(), str(path), checksum=True)


def check_bytes(raw: bytes, where: str, *, checksum: bool) -> GraphContents:
    """Check the bytes of a graph before onnxruntime reads them; return their contents.

    Args:
        raw: the bytes.
        where: the graph's name for error messages.
        checksum: also verify the checksum inside the file; a bundle's manifest makes it needless.

    Raises:
        InputError: the graph was not written by vae-export, or has harmful content.
        IntegrityError: the bytes have changed since they were written.
    """
    whole = not checksum or verify_graph(raw, where)
    contents = check_graph(raw, where)
    if METADATA_KEY not in contents.metadata:
        raise not_ours(where)
    if not whole:
        raise IntegrityError(
            f"{where}: carries no sha256: truncated, or changed after export. Export it again."
        )
    return contents


def not_ours(where: str) -> InputError:
    """Return the error for a graph that vae-export did not write."""
    return InputError(
        f"{where}: not a graph of a bundle: it carries no {METADATA_KEY} metadata. "
        "Export it with vae-export."
    )
