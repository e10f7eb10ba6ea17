"""Good arrays give the results of float64; bad arrays never reach the session."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import vae_runtime as vae
from vae_runtime.errors import InputError, UsageError, VaeError
from vae_runtime.graph_checks.model import _GRAPH, _MODEL
from vae_runtime.graph_checks.nodes import read_tensor
from vae_runtime.graph_checks.protobuf import BYTES, message
from vae_runtime.inference.session import Session

pytestmark = pytest.mark.torch_free

PATH = Path(__file__).parents[1] / "data" / "cvae_mlp.zip"
N, D, K = 3, 8, 10
Real = NDArray[np.float64]


class Case(NamedTuple):
    """An argument for images, latents or labels, and its value in float64 or the error."""

    kind: str
    name: str
    value: Any
    meant: Real | type[VaeError]


class Reference:
    """The graphs of the bundle in float64, with the weights read from their files."""

    def __init__(self) -> None:
        with zipfile.ZipFile(PATH) as archive:
            self.encoder = weights(archive.read("encoder.onnx"))
            self.decoder = weights(archive.read("conditional_decoder.onnx"))

    def encode(self, images: Real) -> Real:
        w = self.encoder
        h = np.maximum(
            linear(images.reshape(len(images), 64), w, "model.encoder.trunk.layers.0"), 0
        )
        return linear(np.maximum(linear(h, w, "model.encoder.trunk.layers.1"), 0), w, "model.mu")

    def decode(self, z: Real, label: Real) -> Real:
        w = self.decoder
        code = z + w["table"].reshape(K + 1, D)[label.astype(int)]
        h = np.maximum(linear(code, w, "model.decoder.trunk.layers.0"), 0)
        return 1 / (1 + np.exp(-linear(h, w, "model.decoder.head").reshape(-1, 1, 8, 8)))


def weights(raw: bytes) -> dict[str, Real]:
    whole = message(raw, (0, len(raw), BYTES), _MODEL, "")
    found = {}
    for part in message(raw, whole[7][0], _GRAPH, "")[5]:
        tensor = read_tensor(raw, part)
        if tensor.value is not None and tensor.kind == 1:
            found[tensor.name] = tensor.value.reshape(-1).astype(np.float64)
    return found


def linear(x: Real, w: dict[str, Real], name: str) -> Real:
    bias = w[f"{name}.bias"]
    return x @ w[f"{name}.weight"].reshape(len(bias), -1).T + bias


def layouts(array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Return the same numbers in other memory layouts."""
    yield "plain", array
    yield "Fortran", np.asfortranarray(array)
    yield "every second", np.repeat(array, 2, axis=0)[::2]
    yield "backwards", array[::-1].copy()[::-1]
    yield "columns backwards", array[..., ::-1].copy()[..., ::-1]
    frozen = array.copy()
    frozen.flags.writeable = False
    yield "read-only", frozen
    shifted = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    assert shifted.dtype.itemsize == 1 or not shifted.flags.aligned
    yield "unaligned", shifted
    yield "subclass", array.view(np.matrix) if array.ndim == 2 else array.view(np.recarray)
    yield "one row for all", np.broadcast_to(array[:1], array.shape)
    for n in (0, 1, 257):
        yield f"{n} rows", np.resize(array, (n, *array.shape[1:]))


def spoiled(array: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Return the array with one bad number at the beginning, in the middle or at the end."""
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        for at in (0, array.size // 2, array.size - 1):
            bad = array.copy()
            bad.flat[at] = value
            yield f"{value} at {at}", bad


def other_types(array: NDArray[Any]) -> Iterator[tuple[str, Any]]:
    """Return the same numbers in types that no graph accepts."""
    for dtype in ("f2", "f8", "g", ">f4", ">f8", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "?",
                  "c8", "c16", "U4", "S4", "O", "M8[s]", "m8[s]"):  # fmt: skip
        yield dtype, (array > 0.3).astype(dtype) if dtype[0] in "Mm" else array.astype(dtype)
    yield "record", np.zeros(array.shape, [("a", "f4")])
    yield "masked objects", np.full(array.shape, None)


def image_cases(rng: np.random.Generator) -> Iterator[Case]:
    images = rng.random((N, 1, 8, 8), np.float32)
    bytes_ = rng.integers(0, 256, (N, 1, 8, 8)).astype(np.uint8)
    for name, array in layouts(images):
        yield Case("images", name, array, np.asarray(array, np.float64))
    for name, array in layouts(bytes_):
        yield Case("images", f"bytes, {name}", array, np.asarray(array, np.float64) / 255)
    for name, array in (("NHW", images[:, 0]), ("NHWC", images.transpose(0, 2, 3, 1)),
                        ("HW", images[0, 0]), ("CHW", images[0])):  # fmt: skip
        yield Case("images", name, array, array.astype(np.float64).reshape(-1, 1, 8, 8))
    for name, value in (("subnormal", 1e-45), ("tiny", 1e-38), ("minus zero", -0.0), ("one", 1.0)):
        whole = np.full((N, 1, 8, 8), value, np.float32)
        yield Case("images", name, whole, whole.astype(np.float64))
    for name, array in (*spoiled(images), *other_types(images)):
        yield Case("images", name, array, InputError)
    above = np.nextafter(np.float32(1), np.float32(2))
    for value in (-1e-45, -1, above, 255, 3e38, -3e38):
        bad = images.copy()
        bad[1, 0, 3, 4] = value
        yield Case("images", f"{value}", bad, InputError)
    for shape in ((), (0,), (64,), (8,), (N, 64), (N, 1, 8, 7), (N, 2, 8, 8), (N, 3, 8, 8), (8, 9),
                  (N, 1, 1, 8, 8), (1, 8), (N, 8, 8, 2), (N, 0, 8, 8), (N, 1, 0, 8)):  # fmt: skip
        yield Case("images", f"shape {shape}", np.zeros(shape, np.float32), InputError)
    for name, value in (("None", None), ("text", "digit.png"), ("list", [[0.5] * 8] * 8)):
        yield Case("images", name, value, InputError)


def latent_cases(rng: np.random.Generator) -> Iterator[Case]:
    z = rng.normal(size=(N, D)).astype(np.float32)
    for name, array in layouts(z):
        yield Case("z", name, array, np.asarray(array, np.float64))
    yield Case("z", "one code", z[0], z[:1].astype(np.float64))
    yield Case("z", "list", [[0.5] * D], np.full((1, D), 0.5))
    for value in (1e-45, -1e-45, 1e-38, -0.0, 30, -30):
        whole = np.full((N, D), value, np.float32)
        yield Case("z", f"all {value}", whole, whole.astype(np.float64))
    for name, array in (*spoiled(z), *other_types(z)):
        yield Case("z", name, array, InputError)
    for shape in ((), (0,), (D + 1,), (N, D - 1), (N, D + 1), (D, N), (N, 1, D), (N, 0), (1, N, D)):
        yield Case("z", f"shape {shape}", np.zeros(shape, np.float32), InputError)
    for name, value in (("None", None), ("text", "latents"), ("ragged", [[0.0] * D, [0.0]]),
                        ("list of text", [["a"] * D]), ("too large", [[1e39] * D])):  # fmt: skip
        yield Case("z", name, value, InputError)


def label_cases() -> Iterator[Case]:
    right = np.array([0, 9, 4])
    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        yield Case("label", dtype, right.astype(dtype), right.astype(np.float64))
    for name, value, meant in (
        ("list", [0, 9, 4], right), ("one", 7, np.full(N, 7)), ("one of numpy", np.int8(7),
        np.full(N, 7)), ("names", ["0", "9", "4"], right), ("name", "7", np.full(N, 7)),
        ("backwards", np.array([4, 9, 0])[::-1], right), ("none", None, np.full(N, K)),
        ("strided", np.array([0, 1, 9, 1, 4, 1])[::2], right),
    ):  # fmt: skip
        yield Case("label", name, value, np.asarray(meant, np.float64))
    for bad in (-1, -(2**63), K, K + 1, 2**31, 2**63 - 1):
        yield Case("label", f"{bad}", bad, InputError)
        yield Case("label", f"among others {bad}", np.array([0, bad, 1]), InputError)
    yield Case("label", "beyond any", 2**64, InputError)
    for dtype in (">i4", ">i8", "f4", "f8", "?", "c8", "O", "S1", "M8[s]"):
        yield Case("label", dtype, right.astype(dtype), InputError)
    for shape in ((0,), (1,), (2,), (4,), (N, 1), (1, N)):
        yield Case("label", f"shape {shape}", np.zeros(shape, np.int64), InputError)
    for name, value in (("unknown", "ten"), ("empty", ""), ("digits of others", "٣"),
                        ("minus", "-1"), ("among others", ["0", "x", "1"])):  # fmt: skip
        yield Case("label", name, value, UsageError)


def cases() -> list[Case]:
    rng = np.random.default_rng(0)
    return [*image_cases(rng), *latent_cases(rng), *label_cases()]


def call(model: vae.Autoencoder, case: Case, z: NDArray[np.float32]) -> NDArray[Any]:
    if case.kind == "images":
        return model.encode(case.value)
    return model.decode(case.value, 3) if case.kind == "z" else model.decode(z, case.value)


def test_wrong_numbers_never_reach_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, reached = Reference(), []
    z = np.random.default_rng(1).normal(size=(N, D)).astype(np.float32)
    run = Session.run

    def watched(self: Session, *args: Any, **inputs: Any) -> Any:
        reached.append(inputs)
        return run(self, *args, **inputs)

    monkeypatch.setattr(Session, "run", watched)
    wrong, tally = [], Counter[str]()
    with vae.load(PATH, device="cpu") as model:
        for case in cases():
            reached.clear()
            try:
                found: Any = call(model, case, z)
            except VaeError as error:
                found = type(error)
            tally[found.__name__ if isinstance(found, type) else "right"] += 1
            if not as_meant(found, case, reference, z) or (isinstance(found, type) and reached):
                wrong.append(f"{case.kind}: {case.name}: {found}")
    print(f"\n{sum(tally.values())} arrays: {dict(tally)}")
    assert not wrong
    assert sum(tally.values()) >= 200


def as_meant(found: Any, case: Case, reference: Reference, z: NDArray[np.float32]) -> bool:
    """Return whether the error is the expected one, or every number equals that of float64."""
    if isinstance(case.meant, type) or isinstance(found, type):
        return found is case.meant
    if case.kind == "images":
        expected = reference.encode(case.meant)
    elif case.kind == "z":
        expected = reference.decode(case.meant, np.full(len(case.meant), 3.0))
    else:
        expected = decode_unlabelled(reference, z, case.meant)
    error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    return found.shape == expected.shape and bool((error < 1e-5).all())


def decode_unlabelled(reference: Reference, z: NDArray[np.float32], label: Real) -> Real:
    return reference.decode(z.astype(np.float64), label)
