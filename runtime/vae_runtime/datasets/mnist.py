"""Download MNIST to the user's cache once, and check the sha256 of every file.

MNIST is by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, CC BY-SA 3.0.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import os
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import FileError, describe_os_error
from ..files.atomic import write_atomic
from .dataset import Dataset
from .idx import load_idx

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://github.com/golbin/TensorFlow-MNIST/raw/master/mnist/data/",
)
# Checksums of the uncompressed content, because mirrors use different gzip headers.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_MAX_BYTES = 64 << 20
_TIMEOUT_S = 20


def cache_folder() -> Path:
    """Return `$VAE_ONNX_CACHE`, else `$XDG_CACHE_HOME/vae-onnx`, else `~/.cache/vae-onnx`."""
    if own := os.environ.get("VAE_ONNX_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vae-onnx"


def load_mnist(split: str, folder: Path | None = None, mirrors: Sequence[str] = MIRRORS) -> Dataset:
    """Load the 60,000 (`train`) or 10,000 (`test`) digits from the cache, or else from a mirror.

    Raises:
        FileError: no mirror has the right bytes, or the cache is not writable.
    """
    folder = folder or cache_folder() / "mnist"
    prefix = "train" if split == "train" else "t10k"
    for name in SHA256:
        if name.startswith(prefix) and not (folder / f"{name}.gz").exists():
            content = _download(name, mirrors)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise FileError(
                    f"{folder}: {describe_os_error(error)}. "
                    "Name another folder in the environment variable VAE_ONNX_CACHE."
                ) from error
            write_atomic(folder / f"{name}.gz", gzip.compress(content, 6, mtime=0))
    data = load_idx(folder, split)
    return Dataset("mnist", data.images, data.labels, data.classes)


def _download(name: str, mirrors: Sequence[str]) -> bytes:
    """Download one file from the first mirror that has the right bytes, and uncompress it."""
    failures = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=_TIMEOUT_S) as reply:
                packed = reply.read(_MAX_BYTES)
            with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
                content = stream.read(_MAX_BYTES)
        except (OSError, http.client.HTTPException, EOFError, zlib.error) as error:
            failures.append(f"{mirror}: {error or type(error).__name__}")
            continue
        if hashlib.sha256(content).hexdigest() == SHA256[name]:
            return content
        failures.append(f"{mirror}: wrong sha256")
    # The remedy comes first because messages are cut off after 600 characters.
    raise FileError(
        f"mnist: {name} could not be downloaded. Put the four .gz files in a folder and use "
        "that folder in place of mnist, or use digits, which needs no network. "
        f"Tried: {'; '.join(failures)}"
    )
