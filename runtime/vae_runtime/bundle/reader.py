"""Open a bundle: a folder, a stored `.zip` of the same files, or the name of an embedded bundle.

Each file is read into memory once, so onnxruntime receives exactly the bytes whose sha256 was
checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import (
    FileError,
    InputError,
    IntegrityError,
    LimitError,
    NotFound,
    StateError,
    UsageError,
    describe_os_error,
)
from .archive import Reader, open_zip
from .manifest import NAME, Manifest
from .spec import MAX_FILE, FileSpec

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

EMBEDDED = Path(__file__).parent.parent / "embedded"
MAX_MANIFEST = 64 << 20
IGNORED = frozenset({"README.md", "LICENSE"})  # allowed in a bundle, but never read


@dataclass(frozen=True, repr=False)
class Bundle:
    """An open bundle. A pickle holds its source and its sha256, not its files.

    Attributes:
        name: the path or name used to open the bundle.
        manifest: describes the bundle and lists its files.
        sha256: sha256 of the manifest, which contains the sha256 of every other file.
        source: the absolute path or embedded name; None if the files are in memory.
        notes: those of README.md and LICENSE that are beside the listed files.
    """

    name: str
    manifest: Manifest
    sha256: str
    source: str | None
    notes: tuple[str, ...]
    _read: Reader

    def __repr__(self) -> str:
        return f"<Bundle {self.name!r}: {self.manifest.spec.summary}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source is None:
            raise StateError(f"{self.name}: a bundle opened from memory cannot be pickled")
        return _reopen, (self.source, self.sha256)

    def read(self, spec: FileSpec) -> bytes:
        """Read one file.

        Raises:
            NotFound: the file is missing.
            IntegrityError: the bytes have changed since the export, or the folder has been replaced
                since it was opened.
        """
        try:
            raw = self._read(spec.file, spec.bytes + 1)
        except NotFound:
            self._check_unchanged()
            raise
        if len(raw) != spec.bytes or hashlib.sha256(raw).hexdigest() != spec.sha256:
            self._check_unchanged()
            raise IntegrityError(
                f"{self.name}/{spec.file}: damaged: its bytes do not match the sha256 in the "
                "manifest. Copy or export the bundle again."
            )
        return raw

    def _check_unchanged(self) -> None:
        """Raise an IntegrityError if the folder no longer has the manifest that was opened."""
        try:
            found = hashlib.sha256(self._read(NAME, MAX_MANIFEST)).hexdigest()
        except FileError:
            found = ""
        if found != self.sha256:
            what = "another bundle has taken its place" if found else "it has been removed"
            raise IntegrityError(f"{self.name}: {what} since it was opened. Load it again.")

    def read_all(self) -> dict[str, bytes]:
        """Read all files, manifest first, into a dictionary for `archive.pack`.

        Raises:
            NotFound, IntegrityError: see `read`.
        """
        files = {name: self.read(spec) for name, spec in self.manifest.files().items()}
        return {NAME: self._read(NAME, MAX_MANIFEST), **files}

    def read_notes(self) -> dict[str, bytes]:
        """Read README.md and LICENSE, those that exist. Nothing verifies their content."""
        return {name: self._read(name, MAX_MANIFEST) for name in self.notes}


def open_bundle(source: str | Path) -> Bundle:
    """Open a bundle and read its manifest.

    Args:
        source: a folder, a `.zip`, or the name of an embedded bundle (`mnist`, `fashion`). A folder
            of the same name takes precedence if it contains a bundle.

    Raises:
        UsageError: `source` is neither text nor a path.
        NotFound: no file, folder or embedded bundle has that name.
        InputError: the folder or zip is not a bundle, or its manifest is not valid.
        IntegrityError: the zip or the manifest is damaged.
    """
    if not isinstance(source, str | Path):
        raise UsageError(f"bundle is {source!r:.80}, expected a name, or the path of one")
    path = Path(source)
    # A folder of data does not hide an embedded bundle of the same name.
    if str(source) in embedded_names() and not (path / NAME).is_file():
        with _embedded_file(str(source)) as file:
            reader, names = open_zip(file)
        return _open(str(source), reader, names, str(source))
    if path.is_dir():
        reader, names = _open_folder(path)
    elif path.is_file():
        reader, names = open_zip(path)
    else:
        known = embedded_names()
        raise NotFound(
            f"{source}: no such bundle. Expected a folder or .zip that vae-export wrote"
            + (f", or an embedded one: {', '.join(known)}" if known else "")
        )
    return _open(str(source), reader, names, str(path.absolute()))


def _reopen(source: str, sha256: str) -> Bundle:
    """Open a bundle from its pickle.

    Raises:
        IntegrityError: the source is another bundle than the pickled one; see also `open_bundle`.
    """
    bundle = open_bundle(source)
    if bundle.sha256 != sha256:
        raise IntegrityError(
            f"{source}: manifest {bundle.sha256[:12]}, expected {sha256[:12]}: another bundle than "
            "the pickled one. Copy that bundle here, or pickle again."
        )
    return bundle


def open_files(files: dict[str, bytes], name: str) -> Bundle:
    """Open a bundle whose files are in memory.

    Args:
        files: the contents of all files, the manifest included, by name.
        name: what error messages call the bundle.

    Raises:
        InputError, IntegrityError: see `open_bundle`.
    """

    def read(file: str, limit: int) -> bytes:
        if file not in files:
            raise NotFound(f"{name}: {file} is missing from the bundle")
        return files[file][:limit]

    return _open(name, read, list(files))


def _open(name: str, reader: Reader, names: list[str], source: str | None = None) -> Bundle:
    """Read the manifest, and refuse files that it does not list."""
    try:
        raw = reader(NAME, MAX_MANIFEST + 1)
    except NotFound as error:
        raise InputError(
            f"{name}: no {NAME} inside, so not a bundle. Expected what vae-export wrote."
        ) from error
    if len(raw) > MAX_MANIFEST:
        raise LimitError(f"{name}/{NAME}: over {MAX_MANIFEST} bytes")
    manifest = Manifest.from_bytes(raw, f"{name}/{NAME}")
    extra = sorted(set(names) - manifest.files().keys() - {NAME} - IGNORED)
    if extra:
        raise InputError(
            f"{name}: holds {extra[0]!r}, which the manifest does not list. Remove it."
        )
    notes = tuple(sorted(IGNORED.intersection(names)))
    return Bundle(name, manifest, hashlib.sha256(raw).hexdigest(), source, notes, reader)


def embedded_names() -> list[str]:
    """Return the names of the bundles that come with the package."""
    folder = EMBEDDED if EMBEDDED.is_dir() else _embedded_resources()
    names = (item.name for item in folder.iterdir())
    return sorted(name.removesuffix(".zip") for name in names if name.endswith(".zip"))


@contextlib.contextmanager
def _embedded_file(name: str) -> Iterator[Path]:
    """Yield the path of an embedded bundle; a temporary copy if the package itself is in a zip."""
    if EMBEDDED.is_dir():
        yield EMBEDDED / f"{name}.zip"
        return
    from importlib import resources

    with resources.as_file(_embedded_resources() / f"{name}.zip") as path:
        yield path


def _embedded_resources() -> Traversable:
    from importlib import resources  # slow to import, and needed only inside a zip

    return resources.files(__name__.partition(".")[0]) / "embedded"


def _open_folder(folder: Path) -> tuple[Reader, list[str]]:
    """Return two things: a function that reads one file, and the names of all non-hidden files."""

    def read(name: str, limit: int) -> bytes:
        path = folder / name
        try:
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode):  # links may lead elsewhere, and pipes may block forever
                what = "a symbolic link" if stat.S_ISLNK(mode) else "not a file"
                raise InputError(f"{path}: {what}; a bundle holds plain files only")
            with path.open("rb") as file:
                return file.read(min(limit, MAX_FILE))
        except FileNotFoundError as error:
            raise NotFound(f"{path}: missing from the bundle") from error
        except OSError as error:
            raise FileError(f"{path}: {describe_os_error(error)}") from error

    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise FileError(f"{folder}: {describe_os_error(error)}") from error
    return read, names
