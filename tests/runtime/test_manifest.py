"""Manifests and specs: written and read back, and errors that name the invalid value."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.security.rechecksum import read_files
from vae_runtime.bundle import spec as specs
from vae_runtime.bundle.checksums import manifest_with_checksum
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.spec import ImageSpec, ModelSpec, parse_spec
from vae_runtime.errors import InputError, IntegrityError
from vae_runtime.files.json_fields import take, take_list
from vae_runtime.prior import Prior

pytestmark = pytest.mark.torch_free

DATA = Path(__file__).parents[1] / "data"
# One bundle with classes and three variants of its graphs, and one without.
CVAE, VAE = (json.loads(read_files(DATA / f"{n}.zip")[NAME]) for n in ("cvae_mlp", "vae_mlp"))
SPEC = ModelSpec("id", "cvae", ImageSpec(1, 4, 5), (2,), ("a", "b"), "bernoulli", Prior.normal(2))
MIXTURE = {"weights": [[1.0]], "mean": [[[0.0, 0.0]]], "cholesky": [[[1.0, 0.0, 1.0]]]}
THREE = {name: array * 3 for name, array in MIXTURE.items()}


def mixtures(arrays: dict[str, Any]) -> dict[str, Any]:
    return {"prior": {"kind": "class_gmm", "latent_dim": 2, **arrays}}


def image(**change: Any) -> dict[str, Any]:
    return {"image": SPEC.to_json()["image"] | change}


@pytest.mark.parametrize(
    "change",
    [
        mixtures(THREE),
        image(height=1, width=16_384),
        image(height=16_384, width=1),
        image(channels=3, mode="RGB"),
        {"family": "vae", "classes": []},
        {"family": "ae", "classes": []},
    ],
)
def test_a_valid_spec_is_read(change: dict[str, Any]) -> None:
    data = SPEC.to_json() | change
    assert ModelSpec.from_json(data, "x").to_json() == data


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"family": "gan"}, "family 'gan'"),
        ({"likelihood": "none"}, "likelihood 'none'"),
        (image(channels=2, mode="RGB"), "image RGB 2×4×5"),
        (image(mode="RGB"), "image RGB 1×4×5"),
        (image(height=0), "image L 1×0×5"),
        (image(height=16_385), "image L 1×16385×5"),
        (image(width=0), "image L 1×4×0"),
        (image(width=16_385), "image L 1×4×16385"),
        ({"latent_shape": [3]}, "latent_shape [3]"),
        (mixtures(MIXTURE | {name: array * 2 for name, array in MIXTURE.items()}),
         "prior of 2 mixtures"),
        ({"classes": ["a", "a"]}, "2 classes"),
        ({"classes": []}, "0 classes"),
        ({"family": "vae"}, "2 classes"),
        ({"classes": list("abc")}, "3 classes"),
    ],
)  # fmt: skip
def test_a_spec_that_contradicts_itself_is_refused(
    change: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(specs, "_MAX_CLASSES", 2)
    with pytest.raises(InputError) as caught:
        ModelSpec.from_json(SPEC.to_json() | change, "x")
    assert str(caught.value) == f"x: {what} does not fit the rest. The file is not valid."


def test_the_metadata_of_a_graph() -> None:
    data = SPEC.to_json() | {"role": "decoder", "variant": "fp32"}
    assert parse_spec(json.dumps(data), "x")[1:] == ("decoder", "fp32")
    for text, message in (
        ("{", "x: its metadata: not valid JSON. Expecting property name enclosed in double quotes "
         "in line 1. The file is damaged or was edited."),
        ("[" * 100_000, "x: its metadata: not valid JSON. It is nested more than 64 deep."),
        ("[]", "x: expected a JSON object, got list"),
        (json.dumps(SPEC.to_json()), "x: 'role' is missing"),
        (json.dumps(data | {"variant": None}), "x: 'variant' is NoneType, expected str"),
        (json.dumps(data | {"format": "2.0"}),
         "x: bundle format 2.0, this runtime reads 1.0. Upgrade: pip install -U vae-onnx"),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            parse_spec(text, "x")
        assert str(caught.value) == message


def test_a_value_of_the_wrong_type_is_refused() -> None:
    assert take({"n": 1}, "n", int, "x") == 1
    assert take_list({"n": ["a", "b"]}, "n", str, "x") == ("a", "b")
    for value, found in ((True, "bool"), ("1", "str"), (1.0, "float"), (None, "NoneType")):
        with pytest.raises(InputError, match=f"^x: 'n' is {found}, expected int$"):
            take({"n": value}, "n", int, "x")
    for values in (["a", 1], ["a", None], ["a", ["b"]]):
        with pytest.raises(InputError, match=r"^x: 'n' must hold str only$"):
            take_list({"n": values}, "n", str, "x")
    with pytest.raises(InputError, match=r"^x: 'n' is missing$"):
        take({}, "n", int, "x")


def read(data: dict[str, Any]) -> Manifest:
    """Read a manifest of these values, with the correct checksum."""
    data.pop("sha256", None)
    return Manifest.from_bytes(manifest_with_checksum(json.dumps(data).encode()), "x")


def graphs(index: int, **change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["graphs"][index].update(change)


def tensors(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["graphs"][0]["inputs"][0].update(change)


def twice(**change: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["graphs"].append(copy.deepcopy(data["graphs"][0]) | change)


FILE = "x: file {!r}: expected a plain name, size and sha256"
SHAPE = "x: tensor 'image': expected integers in its shape"
UNFIT = "x: {}: its tensors do not fit the spec"
TWICE = "x: a file or a graph is listed twice"
CONTRADICTIONS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], object], str]] = [
    (CVAE, graphs(0, file="../encoder.onnx"), FILE.format("../encoder.onnx")),
    (CVAE, graphs(0, file="/etc/passwd"), FILE.format("/etc/passwd")),
    (CVAE, graphs(0, sha256="A" * 64), FILE.format("encoder.onnx")),
    (CVAE, graphs(0, bytes=0), FILE.format("encoder.onnx")),
    (CVAE, graphs(0, bytes=-1), FILE.format("encoder.onnx")),
    (CVAE, graphs(0, role="judge"),
     "x: graph role 'judge', expected encoder, decoder, conditional_decoder, sampler"),
    (VAE, lambda data: data["graphs"].pop(0), "x: no encoder among its graphs"),
    (VAE, twice(role="conditional_decoder", file="c.onnx"),
     "x: graph role 'conditional_decoder', expected encoder, decoder, sampler"),
    (CVAE, lambda data: data["graphs"].pop(4), "x: no conditional_decoder among its graphs"),
    (CVAE, tensors(shape=["batch", True, 8, 8]), SHAPE),
    (CVAE, tensors(shape=["batch", 1.0, 8, 8]), SHAPE),
    (CVAE, tensors(shape=["batch", "1", 8, 8]), SHAPE),
    (CVAE, tensors(shape=["n", 1, 8, 8]), UNFIT.format("encoder.onnx")),
    (CVAE, tensors(shape=[]), UNFIT.format("encoder.onnx")),
    (CVAE, tensors(dtype="float64"), UNFIT.format("encoder.onnx")),
    (CVAE, tensors(name="x"), UNFIT.format("encoder.onnx")),
    (CVAE, twice(variant="fp16", file="e.onnx"), UNFIT.format("e.onnx")),
    (CVAE, graphs(3, variant="fp99"), UNFIT.format("decoder.fp16.onnx")),
    (CVAE, twice(variant="fp16"), TWICE),
    (CVAE, twice(file="e.onnx"), TWICE),
    (CVAE, lambda data: data["golden"].update(file=NAME), TWICE),
]  # fmt: skip


@pytest.mark.parametrize(("source", "change", "message"), CONTRADICTIONS)
def test_a_manifest_that_contradicts_itself_is_refused(
    source: dict[str, Any], change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = copy.deepcopy(source)
    read(data)
    change(data)
    with pytest.raises(InputError) as caught:
        read(data)
    assert str(caught.value) == message


def test_a_manifest_matches_its_checksum() -> None:
    raw = manifest_with_checksum(
        json.dumps({k: v for k, v in VAE.items() if k != "sha256"}).encode()
    )
    assert manifest_with_checksum(raw) == raw
    assert Manifest.from_bytes(raw, "x").spec.family == "vae"
    again = "Copy or export the bundle again."
    for wrong, error, message in (
        (raw.replace(b"vae", b"vaf", 1), IntegrityError,
         f"x: damaged or edited: its bytes do not match its own sha256. {again}"),
        (json.dumps(VAE).encode(), IntegrityError,
         f"x: damaged or edited: it does not begin with its own sha256. {again}"),
        (manifest_with_checksum(b'{"format": "2.0"}'), InputError,
         "x: bundle format 2.0, this runtime reads 1.0. Upgrade: pip install -U vae-onnx"),
        (b'{"a": 1,\n "b" 2}', InputError, "x: not valid JSON. Expecting ':' delimiter in line 2. "
         "The file is damaged or was edited."),
        (b"\xff{}", InputError,
         "x: not valid JSON. Byte 0 is not UTF-8. The file is damaged or was edited."),
        (b"[" * 100_000, InputError, "x: not valid JSON. It is nested more than 64 deep."),
        (b"[" * 65 + b"]" * 65, InputError, "x: not valid JSON. It is nested more than 64 deep."),
        (b'{"a": 1, "b": 2, "a": 3}', InputError,
         "x: not valid JSON. The key 'a' occurs twice in one object."),
        (b'{"a": NaN}', InputError, "x: not valid JSON. NaN is not a number in JSON."),
        (b'{"a": 1e999}', InputError,
         "x: not valid JSON. A number is outside the range of float64."),
        (b'{"a": ' + b"9" * 400 + b"}", InputError,
         "x: not valid JSON. An integer of 400 digits is outside the range of float64."),
        (b'{"a": ' + b"9" * 309 + b"}", InputError,
         "x: not valid JSON. A number is outside the range of float64."),
        (b'{"a": "\\ud800"}', InputError,
         "x: not valid JSON. A string holds half a surrogate pair."),
    ):  # fmt: skip
        with pytest.raises(error) as caught:
            Manifest.from_bytes(wrong, "x")
        assert str(caught.value) == message
