"""The readers to fuzz: each accepts a file's bytes or raises a `VaeError`, whatever they are."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vae_runtime import images
from vae_runtime.bundle import archive
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum, verify_graph
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.spec import parse_spec
from vae_runtime.cli import inputs
from vae_runtime.datasets import idx
from vae_runtime.detection.normality import LEVELS, Normality
from vae_runtime.errors import VaeError
from vae_runtime.files import npz
from vae_runtime.graph_checks import check_graph

DATA = Path(__file__).parents[1] / "data"
_FOLDER = tempfile.TemporaryDirectory(prefix="vae-fuzz-")
_FILE = Path(_FOLDER.name) / "file"


class Target(NamedTuple):
    """A reader, and valid or almost valid files to start from."""

    read: Callable[[bytes], object]
    seeds: Callable[[], Iterator[bytes]]


def accepts(name: str, raw: bytes) -> bool:
    """Return whether the target accepts these bytes; only a `VaeError` may refuse them."""
    try:
        TARGETS[name].read(raw)
    except VaeError as error:
        refusal = error
    else:
        return True
    assert str(refusal), "an error without a message"
    assert "\n" not in str(refusal)
    assert refusal.exit_code in (3, 4, 5), refusal
    return False


def _bundle(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(DATA / name) as file:
        return {member: file.read(member) for member in file.namelist()}


def _manifest(raw: bytes) -> None:
    # Add a correct checksum, so that the checks after it are fuzzed.
    Manifest.from_bytes(manifest_with_checksum(raw), NAME)


def _manifests() -> Iterator[bytes]:
    for path in sorted(DATA.glob("*.zip")):
        raw = _bundle(path.name)[NAME]
        yield raw
        prior = {"kind": "normal", "latent_dim": prod(json.loads(raw)["latent_shape"])}
        yield json.dumps(json.loads(raw) | {"prior": prior}).encode()  # without the large arrays


def _specs() -> Iterator[bytes]:
    for raw in _manifests():
        yield json.dumps(json.loads(raw) | {"role": "decoder", "variant": "fp32"}).encode()


def _zip(raw: bytes) -> None:
    _FILE.write_bytes(raw)
    read, names = archive.open_zip(_FILE)
    for name in names:
        read(name, 1 << 20)


def _zips() -> Iterator[bytes]:
    small = {NAME: b"{}", "decoder.onnx": b"12345", "golden.npz": b""}
    packed = archive.pack(small)
    yield packed
    yield packed[:-73] + b"\0\0"  # without its checksum, as another program writes it
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            file.writestr("a", b"a" * 50)
        yield buffer.getvalue()


def _graphs() -> Iterator[bytes]:
    from tests.security.build import SOUND, layers

    yield SOUND
    yield layers()
    yield graph_with_checksum(SOUND)


def _npys() -> Iterator[bytes]:
    for array in (np.zeros((2, 3), np.float32), np.arange(4), np.zeros((0, 5), ">f4"),
                  np.asfortranarray(np.zeros((2, 3)))):  # fmt: skip
        buffer = io.BytesIO()
        np.save(buffer, array)
        yield buffer.getvalue()


def _npzs() -> Iterator[bytes]:
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        arrays: Any = {"images": np.zeros((2, 4, 4), np.uint8), "classes": np.array(["a", "b"])}
        save(buffer, **arrays)
        yield buffer.getvalue()


def _idx(raw: bytes) -> None:
    _FILE.write_bytes(raw)
    idx.read_idx(_FILE, 64 << 20)


def _idxs() -> Iterator[bytes]:
    for shape in ((5,), (2, 3, 3), (1, 2, 2, 3)):
        header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        whole = header + bytes(int(np.prod(shape)))
        yield whole
        yield gzip.compress(whole, mtime=0)


def _images() -> Iterator[bytes]:
    for kind, modes in {"PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
                        "JPEG": ("L", "RGB", "CMYK"), "WEBP": ("RGB", "RGBA"),
                        "BMP": ("1", "L", "P", "RGB")}.items():  # fmt: skip
        for mode in modes:
            buffer = io.BytesIO()
            Image.new(mode, (5, 4)).save(buffer, kind)
            yield buffer.getvalue()


def _csvs() -> Iterator[bytes]:
    yield b"0.5,-1,2e-3\n1,2,3\n"
    yield b"nan,inf,1e400\r\n\r\n"


def _checkpoint(raw: bytes) -> None:
    from vae_train.checkpoint_file import load_untrusted

    load_untrusted(raw, "x.pt")


def _pickle(raw: bytes) -> None:
    """Read a pickle in a valid zip: mutants of a whole zip rarely reach the pickle."""
    _checkpoint(_zipped(raw))


def _normalities() -> Iterator[bytes]:
    scores = np.arange(30.0)
    parts = np.array([[1.0, 2], [3, 4], [5, 6]])
    yield Normality(np.zeros(2), np.eye(2), np.linspace(0, 1, LEVELS), parts, scores, 30).to_bytes()
    yield Normality(np.zeros(1), np.eye(1), np.zeros(LEVELS), parts, scores[:1], 9000).to_bytes()


def _pickles() -> Iterator[bytes]:
    from tests.security.pickles import tensor

    yield pickle.dumps(
        {"format": 1, "a": [1, 2.5, None, True, "x", (1, 2)], "b": {"c": 1 << 40}}, 2
    )
    yield tensor((4,), (1,), 4)
    yield tensor((2, 2), (2, 1), 4)


def _checkpoints() -> Iterator[bytes]:
    yield from map(_zipped, _pickles())


def _zipped(pickled: bytes) -> bytes:
    buffer = io.BytesIO()
    files = {"data.pkl": pickled, "data/0": bytes(16), "byteorder": b"little", "version": b"3\n"}
    with zipfile.ZipFile(buffer, "w") as out:
        for name, raw in files.items():
            out.writestr(zipfile.ZipInfo(f"archive/{name}"), raw)
    return buffer.getvalue()


TARGETS = {
    "manifest": Target(_manifest, _manifests),
    "spec": Target(lambda raw: parse_spec(raw.decode(errors="replace"), "graph"), _specs),
    "zip": Target(_zip, _zips),
    "graph": Target(lambda raw: check_graph(raw, "x.onnx"), _graphs),
    "checksum": Target(lambda raw: verify_graph(raw, "x.onnx"), _graphs),
    "npz": Target(lambda raw: npz.read_npz(raw, "x", npz.NUMBERS + npz.TEXT, 64 << 20), _npzs),
    "npy": Target(lambda raw: npz.read_npy(raw, "x.npy"), _npys),
    "normality": Target(lambda raw: Normality.from_bytes(raw, "x"), _normalities),
    "idx": Target(_idx, _idxs),
    "image": Target(images.read_image, _images),
    "csv": Target(lambda raw: inputs._parse_csv(raw, "x.csv"), _csvs),
    "checkpoint": Target(_checkpoint, _checkpoints),
    "pickle": Target(_pickle, _pickles),
}
