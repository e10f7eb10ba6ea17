"""Opening a bundle: a folder, a stored `.zip` of the same files, or an embedded name.

Every file is read once, into memory, and its sha256 is checked over those very bytes: what is
checked is what onnxruntime is given.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import FileError, InputError, IntegrityError, LimitError, NotFound
from .manifest import NAME, FileSpec, Manifest

EMBEDDED = Path(__file__).parent / "embedded"
MAX_MANIFEST = 64 << 20
MAX_FILE = 2 << 30  # protobuf's own limit for one message


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its manifest, and a way to read its files."""

    name: str
    manifest: Manifest
    _read: Callable[[str, int], bytes]

    def read(self, spec: FileSpec) -> bytes:
        """The bytes of one file.

        Raises:
            NotFound: the file is not there.
            IntegrityError: its bytes are not those that were exported.
        """
        raw = self._read(spec.file, spec.bytes + 1)
        if len(raw) != spec.bytes or hashlib.sha256(raw).hexdigest() != spec.sha256:
            raise IntegrityError(
                f"{self.name}/{spec.file}: damaged: its bytes do not match the sha256 in the "
                "manifest. Copy or export the bundle again."
            )
        return raw


def open_bundle(source: str | Path) -> Bundle:
    """Open a bundle and read its manifest.

    Args:
        source: a folder, a `.zip`, or the name of an embedded bundle (`mnist`).

    Raises:
        NotFound: nothing there, and no embedded bundle of that name.
        InputError: a folder or zip that is no bundle, or a manifest that is not valid.
    """
    path = Path(source)
    if path.is_dir():
        reader = _folder_reader(path)
    elif path.is_file():
        reader = _zip_reader(path)
    elif (EMBEDDED / f"{source}.zip").is_file() and path.name == str(source):
        reader = _zip_reader(EMBEDDED / f"{source}.zip")
    else:
        names = embedded_names()
        raise NotFound(
            f"{source}: no such bundle. Expected a folder or .zip that vae-export wrote"
            + (f", or an embedded one: {', '.join(names)}" if names else "")
        )
    try:
        raw = reader(NAME, MAX_MANIFEST + 1)
    except NotFound as error:
        raise InputError(
            f"{source}: no {NAME} inside, so not a bundle. Expected what vae-export wrote."
        ) from error
    if len(raw) > MAX_MANIFEST:
        raise LimitError(f"{source}/{NAME}: over {MAX_MANIFEST} bytes")
    return Bundle(str(source), Manifest.from_bytes(raw, f"{source}/{NAME}"), reader)


def embedded_names() -> list[str]:
    """The bundles that come with the package."""
    return sorted(path.stem for path in EMBEDDED.glob("*.zip"))


def _folder_reader(folder: Path) -> Callable[[str, int], bytes]:
    def read(name: str, limit: int) -> bytes:
        path = folder / name
        try:
            if path.is_symlink():
                raise InputError(f"{path}: a symbolic link; a bundle holds plain files only")
            with path.open("rb") as file:
                return file.read(min(limit, MAX_FILE))
        except FileNotFoundError as error:
            raise NotFound(f"{path}: missing from the bundle") from error
        except OSError as error:
            raise FileError(f"{path}: {error.strerror}") from error

    return read


def _zip_reader(path: Path) -> Callable[[str, int], bytes]:
    """Read members of a zip; compressed, encrypted or doubly named members are refused."""
    try:
        raw = path.read_bytes()
        archive = zipfile.ZipFile(io.BytesIO(raw))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a zip and not a folder, so not a bundle") from error
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    members = archive.infolist()
    if len({m.filename for m in members}) < len(members):
        raise InputError(f"{path}: two files of the same name in the zip")

    def read(name: str, limit: int) -> bytes:
        try:
            member = archive.getinfo(name)
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise InputError(f"{path}: {name} is compressed; a bundle's zip is stored")
            with archive.open(member) as file:
                return file.read(min(limit, MAX_FILE))
        except KeyError as error:
            raise NotFound(f"{path}: {name} is missing from the bundle") from error
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise IntegrityError(f"{path}: {name} is damaged. Copy the file again.") from error

    return read
