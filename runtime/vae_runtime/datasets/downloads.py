"""Download MNIST and Fashion-MNIST to the user's cache once, and check the sha256 of every file."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import urllib.request
import zlib
from pathlib import Path

from ..errors import FileError, describe_os_error
from ..files.atomic import write_atomic
from .dataset import Dataset
from .idx import find_idx, load_idx
from .known import FILES, Download

_MAX_BYTES = 64 << 20
_TIMEOUT_S = 20


def cache_folder() -> Path:
    """Return `$VAE_ONNX_CACHE`, else `$XDG_CACHE_HOME/vae-onnx`, else `~/.cache/vae-onnx`."""
    if own := os.environ.get("VAE_ONNX_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vae-onnx"


def load_download(which: Download, split: str) -> Dataset:
    """Load the 60,000 (`train`) or 10,000 (`test`) images from the cache, or else from a mirror.

    Raises:
        FileError: no mirror has the right bytes, or the cache is not writable.
    """
    folder = cache_folder() / which.name
    for name in _names(split):
        if not _cached(folder, name).exists():
            content = _download(which, name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FileError(
                    f"{folder}: {describe_os_error(error)}. "
                    "Name another folder in the environment variable VAE_ONNX_CACHE."
                ) from error
            write_atomic(_cached(folder, name), gzip.compress(content, 6, mtime=0))
    found = find_idx(folder)
    assert found is not None
    return load_idx(found, split)


def has_download(which: Download, split: str) -> bool:
    """Return whether a split can be loaded without the network."""
    folder = cache_folder() / which.name
    return all(_cached(folder, name).is_file() for name in _names(split))


def _names(split: str) -> list[str]:
    return [n for n in FILES if n.startswith("train" if split == "train" else "t10k")]


def _cached(folder: Path, name: str) -> Path:
    return folder / f"{name}.gz"


def _download(which: Download, name: str) -> bytes:
    """Download one file from the first mirror that has the right bytes, and uncompress it."""
    failures = []
    for mirror in which.mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=_TIMEOUT_S) as reply:
                packed = reply.read(_MAX_BYTES)
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
                content = stream.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException, EOFError, zlib.error) as error:
            failures.append(f"{mirror}: {error or type(error).__name__}")
            continue
        if hashlib.sha256(content).hexdigest() == which.sha256[name]:
            return content
        failures.append(f"{mirror}: wrong sha256")
    # The remedy comes first because messages are cut off after 600 characters.
    raise FileError(
        f"{which.name}: {name} could not be downloaded. Put the four .gz files in a folder and use "
        f"that folder in place of {which.name}, or use digits, which needs no network. "
        f"Tried: {'; '.join(failures)}"
    )
