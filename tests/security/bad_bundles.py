"""Bad bundles from the good ones in tests/data, each with the error it must raise.

    python tests/security/bad_bundles.py FOLDER      writes them all there, to look at

A lie has every digest right, so that the digests are not what finds it; damage has not.
"""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.security.build import SOUND
from tests.security.rechecksum import folder_of, read_files, with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME
from vae_runtime.errors import InputError, IntegrityError, NotFound

DATA = Path(__file__).parents[1] / "data"
GOOD = sorted(DATA.glob("*.zip"))
Files = dict[str, bytes]
PATHS = (
    "../x.onnx",
    "/etc/passwd",
    "a/b.onnx",
    "C:\\x.onnx",
    ".hidden",
    "",
    "x\n",
    "é.onnx",
    "x" * 200,
)


@dataclass(frozen=True)
class Bad:
    """One bad bundle: its name, how to make it at a path, and what must be raised."""

    name: str
    make: Callable[[Path], None]
    error: type[Exception]


def bad_bundles(good: Path) -> Iterator[Bad]:
    """All that are made from one good bundle, in a fixed order."""
    files = read_files(good)
    for name, change in lies(files):
        manifest = json.loads(files[NAME])
        change(manifest)
        yield Bad(f"{good.stem}: {name}", _zip(with_checksums(files, manifest)), InputError)
    for name, changed, error in damage(files):
        yield Bad(f"{good.stem}: {name}", _zip(changed), error)
    for name, make, error in containers(files):
        yield Bad(f"{good.stem}: {name}", make, error)


def lies(files: Files) -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    """Changes of a manifest."""
    manifest = json.loads(files[NAME])
    for key, bad in (
        ("format", "2.0"), ("family", "gan"), ("latent_dim", 0), ("latent_dim", -1),
        ("latent_dim", "6"), ("latent_dim", True), ("latent_dim", 10**9), ("classes", None),
        ("classes", [1, 2]), ("classes", ["a", "a"]), ("likelihood", "none"), ("prior", {}),
        ("prior", {"kind": "normal", "latent_dim": 1}), ("prior", []), ("graphs", []),
        ("graphs", {}), ("graphs", [1]), ("golden", None), ("id", "0123456789abcdef"), ("id", 1),
        ("training", []), ("image", None), ("training", {"loss": float("nan")}), ("sigma", 0),
        ("sigma", "1"), ("sigma", True),
    ):  # fmt: skip
        yield f"{key} = {bad!r}", lambda m, k=key, b=bad: m.update({k: b})
    other = {"ae": "vae", "vae": "ae", "cvae": "vae"}[manifest["family"]]
    yield f"family {other}", lambda m: m.update(family=other)
    more = [*manifest["classes"], "one more"]
    yield "one class more", lambda m: m.update(classes=more)
    yield "one dimension more", lambda m: m.update(latent_dim=m["latent_dim"] + 1)
    for key, bad in (("height", 9), ("width", 0), ("width", -8), ("height", 10**9), ("channels", 2),
                     ("channels", 3), ("mode", "RGB"), ("mode", 1), ("range", [-1, 1]),
                     ("range", [0, 255]), ("range", [False, True]), ("range", 1)):  # fmt: skip
        yield f"image.{key} = {bad}", lambda m, k=key, b=bad: m["image"].update({k: b})
    for key in ("id", "family", "image", "latent_dim", "classes", "likelihood", "prior",
                "training", "parity", "producer", "checkpoint_sha256"):  # fmt: skip
        yield f"no {key}", lambda m, k=key: m.pop(k)
    for name in PATHS:
        yield f"file {name[:12]!r}", lambda m, n=name: m["graphs"][0].update(file=n)
    for key, bad in (("role", "judge"), ("role", 1), ("variant", "fp99"), ("variant", "uint8"),
                     ("opset", "18"), ("inputs", []), ("outputs", []), ("inputs", 3)):  # fmt: skip
        yield f"graph.{key} = {bad!r}", lambda m, k=key, b=bad: m["graphs"][0].update({k: b})
    for key, bad in (("name", "y"), ("dtype", "float64"), ("dtype", "int64"), ("shape", []),
                     ("shape", [1, 2]), ("shape", ["batch", -1]), ("shape", ["batch", 10**12]),
                     ("shape", ["batch", "n"])):  # fmt: skip
        for side in ("inputs", "outputs"):
            yield (
                f"{side}.{key} = {bad!r}",
                lambda m, s=side, k=key, b=bad: m["graphs"][0][s][0].update({k: b}),
            )
    yield (
        "an input more",
        lambda m: m["graphs"][1]["inputs"].append(
            {"name": "label", "dtype": "int64", "shape": ["batch"]}
        ),
    )
    yield "a graph twice", lambda m: m["graphs"].append(copy.deepcopy(m["graphs"][0]))
    yield "no decoder", lambda m: m["graphs"].pop(1)
    yield "the decoder as encoder", lambda m: m["graphs"][0].update(file=m["graphs"][1]["file"])
    yield "files swapped", _swap_files
    yield "golden is a graph", lambda m: m["golden"].update(file=m["graphs"][0]["file"])
    yield "golden is the manifest", lambda m: m["golden"].update(file=NAME)


def _swap_files(manifest: dict[str, Any]) -> None:
    a, b = manifest["graphs"][:2]
    a["file"], b["file"] = b["file"], a["file"]


def damage(files: Files) -> Iterator[tuple[str, Files, type[Exception]]]:
    """Files that are not what the manifest says, or hold what they must not."""
    for name, raw in files.items():
        yield f"{name} cut off", files | {name: raw[:-5]}, IntegrityError
        if name != NAME:
            yield f"{name} longer", files | {name: raw + b"\0"}, IntegrityError
            yield f"no {name}", {k: v for k, v in files.items() if k != name}, NotFound
    text = files[NAME]
    yield (
        "manifest edited",
        files | {NAME: text.replace(b'"likelihood"', b'"likelihooD"')},
        (IntegrityError),
    )
    yield (
        "manifest without digest",
        files | {NAME: json.dumps(json.loads(text)).encode()},
        (IntegrityError),
    )
    for name, raw in {
        "list": b"[]", "nothing": b"", "text": b"hello", "deep": b"[" * 100_000, "null": b"null",
        "bytes": bytes(range(256)), "deep object": b'{"a":' * 100_000,
    }.items():  # fmt: skip
        yield f"manifest is {name}", files | {NAME: raw}, InputError
    yield (
        "manifest with a with_checksums list",
        files | {NAME: manifest_with_checksum(b'{"format": []}')},
        InputError,
    )
    yield "no manifest", {k: v for k, v in files.items() if k != NAME}, InputError
    yield "extra file", files | {"readme.txt": b"hi"}, InputError
    yield "extra path", files | {"../evil": b"hi"}, InputError
    yield "extra absolute path", files | {"/evil": b"hi"}, InputError
    yield "with_checksums stranger", with_checksums(files | {"decoder.onnx": SOUND}), InputError
    yield "golden is text", with_checksums(files | {"golden.npz": b"hello"}), InputError
    yield "golden is empty", with_checksums(files | {"golden.npz": _npz({})}), InputError
    yield (
        "golden is a pickle",
        with_checksums(files | {"golden.npz": pickle.dumps([1])}),
        InputError,
    )
    objects = np.array([{"a": 1}], dtype=object)
    yield (
        "golden of objects",
        with_checksums(files | {"golden.npz": _npz({"a": objects})}),
        InputError,
    )
    with np.load(io.BytesIO(files["golden.npz"])) as archive:
        arrays = {name: archive[name] for name in archive.files}
    none = {name: array[:0] for name, array in arrays.items()}
    yield "golden without rows", with_checksums(files | {"golden.npz": _npz(none)}), InputError
    for name in list(arrays)[:2]:
        less = {k: v for k, v in arrays.items() if k != name}
        yield (
            f"golden without {name}",
            with_checksums(files | {"golden.npz": _npz(less)}),
            InputError,
        )
    for name, array in arrays.items():
        if ".out." in name:
            wrong = arrays | {name: array + np.float32(0.5)}
            yield (
                f"golden of other {name}",
                with_checksums(files | {"golden.npz": _npz(wrong)}),
                (IntegrityError),
            )
            swapped = arrays | {name: array.astype(array.dtype.newbyteorder(">"))}
            yield (
                f"golden big-endian {name}",
                with_checksums(files | {"golden.npz": _npz(swapped)}),
                InputError,
            )
            nan = arrays | {name: array * np.float32("nan")}
            yield (
                f"golden of NaN {name}",
                with_checksums(files | {"golden.npz": _npz(nan)}),
                InputError,
            )


def containers(files: Files) -> Iterator[tuple[str, Callable[[Path], None], type[Exception]]]:
    """Folders and zips that are wrong themselves."""
    whole = pack(files)

    folder = partial(folder_of, files)

    def link(path: Path) -> None:
        (path / "golden.npz").rename(path.parent / f"{path.name}.elsewhere")
        (path / "golden.npz").symlink_to(path.parent / f"{path.name}.elsewhere")

    def odd(path: Path) -> None:
        (path / "golden.npz").unlink()
        (path / "golden.npz").mkdir()

    def pipe(path: Path) -> None:
        (path / "golden.npz").unlink()
        os.mkfifo(path / "golden.npz")

    yield "folder with a link", folder(link), InputError
    yield "folder with a folder", folder(odd), InputError
    yield "folder with a pipe", folder(pipe), InputError
    yield "folder with an extra file", folder(lambda p: (p / "x").write_bytes(b"")), InputError
    yield "folder without a graph", folder(lambda p: (p / "decoder.onnx").unlink()), NotFound
    yield "folder without manifest", folder(lambda p: (p / NAME).unlink()), InputError
    yield "zip cut off", _raw(whole[:-30]), IntegrityError
    yield "zip cut in half", _raw(whole[: len(whole) // 2]), IntegrityError
    yield "zip longer", _raw(whole + b"\0"), IntegrityError
    yield "zip behind something", _raw(b"\0" * 10 + whole), InputError
    yield "compressed", _raw(_zipped(files, zipfile.ZIP_DEFLATED)), InputError
    yield "a name twice", _raw(_zipped(files, zipfile.ZIP_STORED, twice=True)), InputError


def _npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _zipped(files: Files, method: int, twice: bool = False) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, raw in [*files.items(), *(list(files.items())[:1] if twice else [])]:
            archive.writestr(name, raw)
    return buffer.getvalue()


def _zip(files: Files) -> Callable[[Path], None]:
    return lambda path: _raw(pack(files))(path)


def _raw(raw: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(raw)

    return make


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    found = (bad for good in GOOD for bad in bad_bundles(good))
    for index, bad in enumerate(found):
        bad.make(target / f"{index:03}")
        print(f"{index:03} {bad.error.__name__:<15} {bad.name}")
