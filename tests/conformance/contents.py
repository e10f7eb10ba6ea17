"""Graphs and golden vectors of the corpus: rules G and V, and checksums of files (M12)."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.conformance.bundles import Files, bundle, golden, npy, npz
from tests.conformance.corpus import GOOD, Case, file_case
from tests.security import build
from tests.security.bombs import bombs
from tests.security.rechecksum import with_checksums
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum
from vae_runtime.bundle.manifest import NAME

ARRAYS = golden("cvae")


def all_cases() -> Iterator[Case]:
    """Rules G and V."""
    yield from file_cases()
    yield from graph_cases()
    yield from lone_graph_cases()
    yield from archive_cases()
    yield from array_cases()


def file_cases() -> Iterator[Case]:
    """Files that differ from the list in the manifest."""
    for name in ("encoder.onnx", "golden.npz"):
        raw = GOOD[name]
        for what, changed in {
            "cut off": raw[:-1], "longer": raw + b"\0", "empty": b"",
            "changed": raw[:50] + bytes([raw[50] ^ 1]) + raw[51:],
        }.items():  # fmt: skip
            yield file_case("M12", f"{name} {what}", "IntegrityError", GOOD | {name: changed})

    def listed(**change: Any) -> Files:
        """Change the manifest's entry for golden.npz; the manifest's checksum is correct."""
        data = json.loads(GOOD[NAME])
        spec = data["golden"] | change
        files = with_checksums(GOOD, data | {"golden": {"file": "none"}})
        text = files[NAME].replace(b'{\n  "file": "none"\n }', json.dumps(spec).encode())
        return GOOD | {NAME: manifest_with_checksum(text)}

    size = len(GOOD["golden.npz"])
    for number in (size - 1, size + 1, 1, 2**31):
        yield file_case("M12", f"bytes {number}", "IntegrityError", listed(bytes=number))
    yield file_case("M12", "another sha256", "IntegrityError", listed(sha256="0" * 64))


def graph_case(rule: str, name: str, raw: bytes, verdict: str = "InputError") -> Case:
    """Replace the decoder of a good bundle."""
    files = with_checksums(GOOD | {"decoder.onnx": raw})
    return file_case(rule, name, verdict, files, native=True)


def graph_cases() -> Iterator[Case]:
    """Graphs that no native reader may pass to onnxruntime, and variations that are allowed."""
    yield graph_case("G1", "the encoder", GOOD["encoder.onnx"])
    yield graph_case("G1", "the conditional decoder", GOOD["conditional_decoder.onnx"])
    other = bundle(variants=("uint8",))["decoder.uint8.onnx"]
    yield graph_case("G1", "of bytes", other.replace(b'"uint8"', b'"fp32"'))
    yield graph_case("G2", "no spec", build.SOUND)
    other = GOOD["decoder.onnx"].replace(b'"id":"small"', b'"id":"large"')
    yield graph_case("G2", "of another bundle", other)
    spec = GOOD["decoder.onnx"].replace(b'"latent_shape":[2', b'"latent_shape":[x')
    yield graph_case("G2", "a spec that is not JSON", spec.replace(b'"id":"s', b'"Id":"s'))
    cases = {name: raw for name, (raw, _) in build.hostile().items()}
    names = {
        "G3": ("custom operator set", "custom domain", "custom operator", "RandomNormal", "Loop",
               "opset 17", "opset 24", "two operator sets"),
        "G4": ("sub-graph in Relu", "graphs", "function", "training", "sparse tensor",
               "shapes between"),
        "G5": ("external", "external path", "too few bytes", "too many bytes", "negative size"),
        "G6": ("Conv group 0", "Conv strides [0, 1]", "Conv pads [0, 0, -1, 0]", "long list",
               "no input", "a missing attribute", "an unknown mode", "a last input without a name",
               "division: Div by zero", "division: Mod by -1", "division: Div by a size"),
        "G10": ("constants", "constants of constants"),
        "G11": ("one row for all", "two rows for each", "another type", "a free axis"),
    }  # fmt: skip
    for rule, chosen in names.items():
        for name in chosen:
            yield graph_case(rule, name, cases[name])
    for name, (raw, _) in bombs().items():
        yield graph_case("G7", name, raw)
    base = GOOD["decoder.onnx"][:-85]
    more = build.field(14, build.field(1, "author") + build.field(2, "a test"))
    yield graph_case("G9", "more metadata", base + more, "accept")
    yield graph_case("G9", "documentation", base + build.field(6, "text"), "accept")
    yield graph_case("G9", "another producer", base.replace(b"vae-onnx", b"somebody", 1), "accept")


def lone_graph_cases() -> Iterator[Case]:
    """Graphs that are opened without a bundle."""
    raw = GOOD["decoder.onnx"]
    for name, changed in {
        "no checksum": raw[:-85], "a wrong digit": raw[:-1] + b"g",
        "a flipped bit": raw[:200] + bytes([raw[200] ^ 1]) + raw[201:],
        # With another producer, only the metadata shows that it is a graph of a bundle.
        "no checksum, another producer": raw[:-85].replace(b"vae-onnx", b"another!", 1),
        "metadata after it":
            graph_with_checksum(raw) + build.field(14, build.field(1, "k") + build.field(2, "v")),
    }.items():  # fmt: skip
        yield Case(
            f"G8: {name}", "G8", "IntegrityError", lambda path, r=changed: path.write_bytes(r),  # type: ignore[misc]
            ".onnx", native=True,
        )  # fmt: skip


def npz_case(rule: str, name: str, raw: bytes, verdict: str = "InputError", **more: Any) -> Case:
    """Replace golden.npz of a good bundle."""
    return file_case(rule, name, verdict, with_checksums(GOOD | {"golden.npz": raw}), **more)


def arrays_case(rule: str, name: str, change: dict[str, Any], verdict: str = "InputError") -> Case:
    """Replace arrays in golden.npz of a good bundle."""
    return npz_case(rule, name, npz(ARRAYS | change), verdict)


def members(files: Files, method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip of `.npy` files that NumPy did not write."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return buffer.getvalue()


def archive_cases() -> Iterator[Case]:
    """The format of golden.npz and the headers of its arrays."""
    for name, raw in {
        "text": b"hello", "a pickle": pickle.dumps([1]), "one array": npy(ARRAYS["decoder.in.z"]),
        "an empty zip": members({}), "cut off": npz(ARRAYS)[:-30],
    }.items():  # fmt: skip
        yield npz_case("V4" if name == "an empty zip" else "V1", name, raw)
    files = {f"{name}.npy": npy(array) for name, array in ARRAYS.items()}
    z, key = ARRAYS["decoder.in.z"], "decoder.in.z.npy"
    yield npz_case("V1", "bzip2", members(files, zipfile.ZIP_BZIP2))
    yield npz_case("V1", "no array", members(files | {key: b"hello"}))
    yield npz_case("V1", "an empty member", members(files | {key: b""}))
    yield npz_case("V1", "bytes too few", members(files | {key: npy(z)[:-1]}))
    yield npz_case("V1", "bytes too many", members(files | {key: npy(z) + b"\0"}))
    yield npz_case("V1", "version 3", members(files | {key: npy(z, version=3)}))
    twice = members(files).replace(b"encoder.in.image.npy", b"encoder.out.mu.npy\0\0")
    yield npz_case("V1", "a broken directory", twice[:-4] + b"\xff" * 4)
    header = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}, }}"
    for name, text in {
        "Fortran order": header.format("<f4", True, (5, 2)),
        "big-endian": header.format(">f4", False, (5, 2)),
        "a negative size": header.format("<f4", False, (-5, -2)),
        "a key less": "{'descr': '<f4', 'shape': (5, 2), }",
        "a key more": header.format("<f4", False, (5, 2)).replace(", }", ", 'x': 1, }"),
        "double quotes": header.format("<f4", False, (5, 2)).replace("'", '"'),
        "objects": header.format("|O", False, (5, 2)),
        "no dictionary": "[]",
    }.items():
        yield npz_case("V2", name, members(files | {key: npy(z, header=text)}))
    for dtype in ("<f8", "<f2", "<i4", "|b1", "|i1", "<u8", "<c8"):
        yield arrays_case("V2", f"a further array of {dtype}", {"more": z.astype(dtype)})
    yield arrays_case("V2", "a further array of text", {"more": np.array(["a"])})
    yield arrays_case("V2", "a further array of objects", {"more": np.array([{}], object)})
    yield npz_case("V6", "deflated", npz(ARRAYS, deflated=True), "accept")
    second = {name: npy(ARRAYS[name.removesuffix(".npy")], version=2) for name in files}
    yield npz_case("V6", "version 2", members(second), "accept")
    yield npz_case("V6", "version 2, deflated", members(second, zipfile.ZIP_DEFLATED), "accept")
    yield npz_case("V6", "another order", npz(dict(reversed(ARRAYS.items()))), "accept")


def array_cases() -> Iterator[Case]:
    """The arrays of golden.npz."""
    z, image = ARRAYS["decoder.in.z"], ARRAYS["decoder.out.image"]
    label = ARRAYS["conditional_decoder.in.label"]
    nothing = {name: array[:0] for name, array in ARRAYS.items()}
    yield npz_case("V3", "no rows", npz(nothing))
    yield arrays_case("V3", "an empty further array", {"more": z[:0]})
    for number in ("nan", "inf", "-inf"):
        bad = z.copy()
        bad[3, 1] = float(number)
        yield arrays_case("V3", number, {"decoder.in.z": bad})
        yield arrays_case("V3", f"{number} further", {"more": bad})
    for name in ARRAYS:
        less = {k: v for k, v in ARRAYS.items() if k != name}
        yield npz_case("V4", f"no {name}", npz(less))
    for name, change in {
        "latents as int64": {"decoder.in.z": z.astype(np.int64)},
        "pixels as bytes": {"decoder.out.image": (image * 255).astype(np.uint8)},
        "labels as floats": {"conditional_decoder.in.label": label.astype(np.float32)},
        "one label": {"conditional_decoder.in.label": np.int64(1)},
        "labels of two axes": {"conditional_decoder.in.label": label[:, None]},
        "a dimension less": {"decoder.in.z": z[:, :1]},
        "a row less": {"decoder.out.image": image[:-1]},
        "an axis less": {"decoder.out.image": image[:, 0]},
        "other axes": {"decoder.out.image": image.reshape(5, 1, 4, 1)},
        "one number": {"decoder.in.z": np.float32(1)},
    }.items():
        yield arrays_case("V4", name, change)
    for number in (-1, 3, 2**40):
        bad = label.copy()
        bad[0] = number
        yield arrays_case("V5", f"the label {number}", {"conditional_decoder.in.label": bad})
    further = {"more": z, "bytes": np.zeros((2, 3), np.uint8), "numbers": np.arange(3)}
    yield arrays_case("V7", "further arrays", further, "accept")
    tolerances = {
        "zero": np.zeros(1, "<f4"),
        "above a hundredth": np.full(1, 0.02, "<f4"),
        "two numbers": np.full(2, 1e-4, "<f4"),
        "an integer": np.ones(1, "<i8"),
    }
    for name, array in tolerances.items():
        yield arrays_case("V8", f"tolerance: {name}", {"decoder.tolerance.image": array})
    larger = {"encoder.tolerance.mu": np.full(1, 1e-4, "<f4")}
    yield arrays_case("V7", "a larger tolerance", larger, "accept")
    wrong = npz(ARRAYS | {"decoder.out.image": image + np.float32(0.001)})
    yield npz_case("V9", "other pixels", wrong, "IntegrityError", native=True)
    wrong = npz(ARRAYS | {"encoder.out.mu": ARRAYS["encoder.out.mu"] + np.float32(1e-3)})
    yield npz_case("V9", "other latents", wrong, "IntegrityError", native=True)
