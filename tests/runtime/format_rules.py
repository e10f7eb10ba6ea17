"""Each rule of docs/bundle-format.md, broken: what is changed in a sound bundle of a CVAE."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.security import build
from tests.security.rechecksum import folder_of, read_files, with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

GOOD = read_files(Path(__file__).parents[1] / "data" / "cvae_mlp.zip")
SOUND: dict[str, Any] = json.loads(GOOD[NAME])
DIGESTS = {"bytes", "sha256"}  # signing sets them; M5 and M11 have cases of their own
Files = dict[str, bytes]
Make = Callable[[Path], object]


def broken() -> Iterator[tuple[str, Make]]:
    """A rule's number and a bundle that breaks it, at a path that is not there yet."""
    yield from _containers()
    for rule, change in _manifests():
        manifest = copy.deepcopy(SOUND)
        change(manifest)
        yield rule, zipped(pack(with_checksums(GOOD, manifest)))
    for rule, files in _contents():
        yield rule, zipped(pack(files))


def zipped(raw: bytes) -> Make:
    return lambda path: path.write_bytes(raw)


def _containers() -> Iterator[tuple[str, Make]]:
    whole = pack(GOOD)
    for rule, files in (
        ("F1", {k: v for k, v in GOOD.items() if k != NAME}),
        ("F2", {k: v for k, v in GOOD.items() if k != "golden.npz"}),
        ("F3", GOOD | {"readme.txt": b"hello"}),
        ("F3", GOOD | {".hidden": b"in a zip it counts"}),
        ("F7", GOOD | {f"{i}": b"" for i in range(1000)}),
    ):
        yield rule, zipped(pack(files))
    yield "F3", folder_of(GOOD, lambda path: (path / "more").mkdir())
    yield (
        "F4",
        folder_of(GOOD, lambda path: (path / "golden.npz").rename(path / ".g") and link(path)),
    )
    yield "F5", zipped(b"#!/bin/sh\n" + whole)
    yield "F5", zipped(b"#!/bin/sh\n" + plain_zip(GOOD))
    yield "F6", zipped(plain_zip(GOOD, zipfile.ZIP_DEFLATED))
    yield "F7", zipped(plain_zip(GOOD, twice=True))
    yield "F8", zipped(whole + b"\0")
    yield "F8", zipped(whole[: len(whole) // 2])
    yield "F9", zipped(whole[:-1] + b"g")
    yield "F9", zipped(bytes([*whole[:10], whole[10] ^ 1, *whole[11:]]))  # the time of a member
    # Spaces behind JSON are sound, and cost nothing to read.
    text = GOOD[NAME] + b" " * (64 << 20)
    yield "F10", zipped(pack(GOOD | {NAME: manifest_with_checksum(text)}))


def link(path: Path) -> None:
    (path / "golden.npz").symlink_to(path / ".g")


def plain_zip(files: Files, method: int = zipfile.ZIP_STORED, *, twice: bool = False) -> bytes:
    """As other programs write it: no comment."""
    import warnings

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, raw in [*files.items(), *([(NAME, files[NAME])] if twice else [])]:
            archive.writestr(name, raw)
    return buffer.getvalue()


def _manifests() -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    yield "M1", lambda m: m["training"].update(loss=float("nan"))
    yield "M3", lambda m: m.update(format="2.0")
    yield "M3", lambda m: m.update(format="10.0")
    for key in SOUND.keys() - {"sha256"}:
        yield "M4", lambda m, k=key: m.pop(k)
        yield "M4", lambda m, k=key: m.update({k: None})
    for part in ("image", "golden", "prior"):
        for key in SOUND[part].keys() - DIGESTS:
            yield "M4", lambda m, p=part, k=key: m[p].update({k: None})
    for key in SOUND["graphs"][0].keys() - DIGESTS:
        yield "M4", lambda m, k=key: m["graphs"][0].pop(k)
    for key in ("name", "dtype", "shape"):
        yield "M4", lambda m, k=key: m["graphs"][0]["inputs"][0].pop(k)
    for key, bad in (
        ("family", "gan"), ("latent_dim", 0), ("latent_dim", 65537), ("classes", ["a", "a"]),
        ("classes", []), ("likelihood", "poisson"), ("sigma", 0.5), ("sigma", 0),
    ):  # fmt: skip
        yield "M5", lambda m, k=key, b=bad: m.update({k: b})
    for bad in (0, -1.0, float("1e999")):
        yield "M5", lambda m, b=bad: m.update(likelihood="gaussian", sigma=b)
    for key, bad in (("mode", "RGB"), ("channels", 2), ("height", 0), ("width", 16385),
                     ("range", [-1, 1]), ("range", [0, 255]), ("range", [0])):  # fmt: skip
        yield "M5", lambda m, k=key, b=bad: m["image"].update({k: b})
    for key, bad in (("role", "judge"), ("variant", "fp64"), ("variant", "int8"), ("file", "../x"),
                     ("file", ".x"), ("file", "x" * 101),  ):  # fmt: skip
        yield "M5", lambda m, k=key, b=bad: m["graphs"][0].update({k: b})
    yield "M5", lambda m: m["graphs"][0]["inputs"][0].update(dtype="float64")
    yield "M5", lambda m: m["graphs"][0]["inputs"][0].update(shape=[1, 1, 8, 8])
    yield from _priors()
    yield "M8", lambda m: m.update(graphs=[g for g in m["graphs"] if g["role"] != "decoder"])
    yield "M8", lambda m: m.update(family="vae", classes=[])
    yield "M9", lambda m: m["graphs"].append(copy.deepcopy(m["graphs"][0]))
    yield "M9", lambda m: m["golden"].update(file=m["graphs"][0]["file"])
    yield "M9", lambda m: m["golden"].update(file=NAME)
    yield "M10", lambda m: m["graphs"][0]["outputs"].reverse()
    yield "M10", lambda m: m["graphs"][0]["outputs"][0].update(shape=["batch", 3])
    yield "G1", lambda m: m.update(latent_dim=1, prior={"kind": "normal", "latent_dim": 1})
    yield "G2", lambda m: m.update(id="another")


def _priors() -> Iterator[tuple[str, Callable[[dict[str, Any]], object]]]:
    d = SOUND["latent_dim"]
    rows = len(SOUND["classes"]) + 1
    box = {"kind": "uniform", "latent_dim": d, "low": [0.0] * d, "high": [1.0] * d}
    one = {"weights": [[1.0]], "mean": [[[0.0] * d]], "cholesky": [[[1.0] * (d * (d + 1) // 2)]]}
    gauss = {"kind": "gaussian", "latent_dim": d, **one}
    yield "M6", lambda m: m.update(prior={"kind": "normal", "latent_dim": d + 1})
    yield (
        "M6",
        lambda m: m.update(
            prior={"kind": "class_gmm", "latent_dim": d}
            | {name: (rows - 1) * value for name, value in one.items()}
        ),
    )
    for bad in (
        {"kind": "cauchy", "latent_dim": d},
        {"kind": "normal", "latent_dim": d, "low": [0.0] * d},
        box | {"low": [2.0] * d}, box | {"low": [0.0] * (d + 1)}, box | {"high": [1e999] * d},
        {k: v for k, v in box.items() if k != "high"},
        gauss | {"weights": [[0.9]]}, gauss | {"weights": [1.0]}, gauss | {"mean": [[[0.0]]]},
        gauss | {"weights": [[1.0, 0.0]]}, gauss | {"cholesky": [[[1.0] * d * d]]},
        gauss | {"mean": [[["0"] * d]]}, gauss | {"kind": "class_gmm"},
        gauss | {"kind": "gmm"} | {name: 2 * value for name, value in one.items()},
    ):  # fmt: skip
        yield "M7", lambda m, p=bad: m.update(prior=p)


def _contents() -> Iterator[tuple[str, Files]]:
    text = GOOD[NAME]
    for raw in (b"[]", b"{", b"\xff\xfe{", b"[" * 100_000):
        yield "M1", GOOD | {NAME: raw}
    yield "M2", GOOD | {NAME: text.replace(b'"epochs"', b'"Epochs"')}
    yield "M2", GOOD | {NAME: text[:30]}
    yield "M2", GOOD | {NAME: json.dumps(SOUND).encode()}
    yield "M2", GOOD | {NAME: manifest_with_checksum(text).replace(b'{\n "sha256"', b'{ "sha256"')}
    yield "M11", GOOD | {"decoder.onnx": GOOD["decoder.onnx"][:-1]}
    yield "M11", GOOD | {"golden.npz": GOOD["golden.npz"] + b"\0"}
    yield "G1", exchanged("decoder.onnx", "encoder.onnx")
    yield "G2", with_checksums(GOOD | {"decoder.onnx": build.SOUND})
    for rule, raw in graphs():
        yield rule, with_checksums(GOOD | {"decoder.onnx": raw})
    with np.load(io.BytesIO(GOOD["golden.npz"])) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for rule, changed in goldens(arrays):
        yield rule, with_checksums(GOOD | {"golden.npz": npz(changed)})
    yield "V1", with_checksums(GOOD | {"golden.npz": b"hello"})


def exchanged(a: str, b: str) -> Files:
    """One file in the place of another, every digest right."""
    return with_checksums(GOOD | {a: GOOD[b]})


def graphs() -> Iterator[tuple[str, bytes]]:
    """Graphs that no reader may hand to onnxruntime."""
    cases = {name: raw for name, (raw, _) in build.hostile().items()}
    for rule, names in {
        "G3": ("custom operator set", "custom domain", "custom operator", "RandomNormal"),
        "G4": ("sub-graph in Relu", "function", "training", "sparse tensor"),
        "G5": ("external", "external path", "too few bytes", "too many bytes"),
        "G6": ("Conv group 0", "MaxPool strides [0, 1]", "Conv pads [0, 0, -1, 0]",
               "division by zero"),
    }.items():  # fmt: skip
        for name in names:
            yield rule, cases[name]
    for raw in build.bombs().values():
        yield "G7", raw


def goldens(arrays: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Arrays of golden.npz that break a rule."""
    z, image = arrays["decoder.in.z"], arrays["decoder.out.image"]
    yield "V1", {name: array[:0] for name, array in arrays.items()}
    yield "V1", arrays | {"decoder.in.z": z.astype(">f4")}
    yield "V1", arrays | {"decoder.in.z": np.full_like(z, np.inf)}
    yield "V1", arrays | {"decoder.in.z": np.array([{}], object)}
    for name in arrays:
        yield "V2", {k: v for k, v in arrays.items() if k != name}
    yield "V2", arrays | {"decoder.in.z": z.astype(np.float64)}
    yield "V2", arrays | {"decoder.in.z": z[:, :-1]}
    yield "V2", arrays | {"decoder.out.image": image[:-1]}
    yield "V3", arrays | {"decoder.out.image": image + np.float32(0.001)}


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def lone() -> Iterator[bytes]:
    """Graphs that break G8: what an embedder may find beside its program."""
    raw = GOOD["decoder.onnx"]
    yield raw[:-85]
    yield raw[:-1] + b"g"
    yield bytes([*raw[:200], raw[200] ^ 1, *raw[201:]])
    # Of another producer, so that nothing but the spec says that it is a graph of a bundle.
    yield raw[:-85].replace(b"\x12\x08vae-onnx", b"\x12\x08another!")
    yield graph_with_checksum(raw) + build.field(14, build.field(1, "k") + build.field(2, "v"))
