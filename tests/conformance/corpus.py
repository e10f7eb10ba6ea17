"""Cases of the corpus, and functions that make them from a good bundle.

All checksums are correct unless the case is about checksums, so they do not reveal the error.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.bundles import Files, bundle
from tests.security.rechecksum import with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

Make = Callable[[Path], object]
Change = Callable[[dict[str, Any]], object]
GOOD = bundle()


@dataclass(frozen=True)
class Case:
    """One file or folder of the corpus.

    Attributes:
        name: unique name for messages.
        rule: the rule of docs/bundle-format.md that the case tests.
        verdict: `accept`, or the kind of error.
        make: writes the case to a path that does not exist yet.
        suffix: suffix of the path: `.zip`, `.onnx`, or none for a folder.
        native: whether only readers that see graphs or the file system give this verdict.
    """

    name: str
    rule: str
    verdict: str
    make: Make
    suffix: str = ".zip"
    native: bool = False


def file_case(rule: str, name: str, verdict: str, files: Files, *, native: bool = False) -> Case:
    """A case of these files in a zip."""
    return zip_case(rule, name, verdict, pack(files), native=native)


def zip_case(rule: str, name: str, verdict: str, raw: bytes, *, native: bool = False) -> Case:
    """A case of these bytes as a zip."""
    return Case(f"{rule}: {name}", rule, verdict, lambda path: path.write_bytes(raw), native=native)


def folder_case(
    rule: str,
    name: str,
    verdict: str,
    change: Callable[[Path], object] = lambda _: None,
    *,
    files: Files = GOOD,
    native: bool = False,
) -> Case:
    """A case of these files in a folder, to which `change` is applied."""

    def make(path: Path) -> None:
        path.mkdir()
        for file, raw in files.items():
            (path / file).write_bytes(raw)
        change(path)

    return Case(f"{rule}: {name}", rule, verdict, make, "", native)


def manifest_case(
    rule: str,
    name: str,
    change: Change,
    verdict: str = "InputError",
    *,
    good: Files = GOOD,
    native: bool = False,
) -> Case:
    """A case of a good bundle whose manifest is changed."""
    manifest = json.loads(good[NAME])
    change(manifest)
    return file_case(rule, name, verdict, with_checksums(good, manifest), native=native)


def text_case(rule: str, name: str, edit: Callable[[str], str], verdict: str) -> Case:
    """A case of a good bundle whose manifest is edited as text, with a correct checksum."""
    text = GOOD[NAME].decode()
    edited = edit(text)
    assert edited != text, name
    raw = edited.encode("utf-8", "surrogatepass")
    return file_case(rule, name, verdict, GOOD | {NAME: manifest_with_checksum(raw)})


def put(*keys: Any, to: Any) -> Change:
    """Set `data[keys[0]][keys[1]]…` to a value."""

    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = copy.deepcopy(to)

    return change


def drop(*keys: Any) -> Change:
    """Remove `data[keys[0]][keys[1]]…`."""

    def change(data: dict[str, Any]) -> None:
        place: Any = data
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]

    return change
