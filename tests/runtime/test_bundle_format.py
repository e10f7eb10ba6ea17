"""Tables, examples and numbers in docs/bundle-format.md match the code.

The rules of the format are tested in tests/conformance.
"""

from __future__ import annotations

import dataclasses
import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from tests.conformance.bundles import npz
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime import errors
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.checksums import graph_with_checksum, manifest_with_checksum
from vae_runtime.bundle.manifest import NAME, Manifest
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.bundle.spec import GraphSpec, ImageSpec, ModelSpec, TensorSpec
from vae_runtime.graph_checks import operators as ops
from vae_runtime.inference.batching import rows_per_batch
from vae_runtime.prior import Prior
from vae_runtime.rng import normals, random_words
from vae_runtime.verification import compare

pytestmark = pytest.mark.torch_free

PAGE = (Path(__file__).parents[2] / "docs" / "bundle-format.md").read_text()
VERDICTS = set(re.findall(r"^\| [A-Z]\d+ \|.*\| (\w+) \|$", PAGE, re.M))
GOOD = read_files(Path(__file__).parents[1] / "data" / "cvae_mlp.zip")


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)
    return str(found)


def keys(section: str) -> set[str]:
    """Return the first column of the table below a heading."""
    (text,) = re.findall(rf"^### Keys of {section}\n(.*?)^##", PAGE, re.M | re.S)
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def use(path: Path) -> None:
    """Read and run everything in a bundle, as `vae-run verify` does."""
    if not all(match.ok for match in compare(open_bundle(path), device="cpu")):
        raise errors.IntegrityError("differs from torch")


def test_exit_codes_match_the_page() -> None:
    found = re.findall(r"^\| `(\w+)` \| (\d) \|", PAGE[: PAGE.index("## Files")], re.M)
    assert len(found) == 4
    for name, code in found:
        assert getattr(errors, name).exit_code == int(code)
    assert {name for name, _ in found} | {"accept"} == VERDICTS


def test_the_example_bundle_matches_the_page(tmp_path: Path) -> None:
    raw = block("json manifest").encode()
    manifest = Manifest.from_bytes(raw, "docs")
    assert manifest_with_checksum(raw) == raw
    assert manifest.spec.classes == ("cat", "dog")
    assert manifest.spec.sigma == 0.25
    again = Manifest.from_bytes(manifest.to_bytes(), "again")
    assert again.to_bytes() == manifest.to_bytes()


def test_the_tables_of_keys_match_the_dataclasses() -> None:
    data = json.loads(block("json manifest"))

    def fields(*kinds: Any) -> set[str]:
        return {field.name for kind in kinds for field in dataclasses.fields(kind)}

    assert keys("the manifest") == data.keys()
    assert keys("the manifest") == fields(ModelSpec, Manifest) - {"spec"} | {"sha256", "format"}
    assert keys("`image`") == data["image"].keys() == fields(ImageSpec) | {"mode", "range"}
    graph = data["graphs"][0]
    assert keys("each entry of `graphs`") == graph.keys()
    assert graph.keys() == fields(GraphSpec) | {"bytes", "sha256"}
    assert keys("each input and output") == graph["inputs"][0].keys() == fields(TensorSpec)
    assert keys("`prior`") == fields(Prior) - {"classes"}
    # Manifests are written with these keys, and rule M4 tests that each is read.
    assert json.loads(GOOD[NAME]).keys() | {"sigma", "normality"} == data.keys()


def test_the_metadata_of_a_graph_has_the_keys_of_the_page() -> None:
    found = re.search(
        r"\*\*`vae_onnx`, the spec\*\*: .*? of the manifest, and (.*?) of", PAGE, re.S
    )
    assert found
    named = set(re.findall(r"`(\w+)`", found[0])) - {"vae_onnx"}
    spec = Manifest.from_bytes(block("json manifest").encode(), "docs").spec
    assert named == spec.to_json().keys() | {"role", "variant"}
    (text,) = re.findall(rb'\{"format":"1.0","id".*?"variant":"fp32"\}', GOOD["decoder.onnx"])
    assert json.loads(text).keys() | {"sigma"} == named


def test_operators_and_bounds_match_the_checks() -> None:
    assert set(block("text operators").split()) == ops.names()
    assert ops.opsets() == (18, 23)
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (-?[\d^]+) \| (-?[\d^]+) \|$", PAGE, re.M)

    def number(text: str) -> int:
        base, _, power = text.lstrip("-").partition("^")
        return (-1 if text[0] == "-" else 1) * int(base) ** int(power or 1)

    found = {
        name: (number(low), number(high))
        for names, low, high in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    assert found == ops.BOUNDS
    assert (number("-2^31"), number("2^31")) == ops.OTHER
    assert (ops.MAX_ELEMENTS, ops.MAX_BYTES) == (2**28, 2**32)
    assert [rows_per_batch(n) for n in (1, 784, 785, 10**9)] == [256, 256, 255, 1]


def test_the_checksums_of_a_manifest_a_graph_and_a_zip() -> None:
    example = block("text checksum").encode()
    assert manifest_with_checksum(b'{\n "format": "1.0"\n}\n') == example
    assert len(example.partition(b'",')[2]) == 20
    assert graph_with_checksum(b"\x08\x08").hex() == "".join(block("hex graph").split())
    assert pack({"a": b"x"}).hex() == "".join(block("hex zip").split())


def test_the_reference_numbers() -> None:
    vectors = json.loads(block("json vectors"))
    one = vectors["words"]
    words = random_words(one["seed"], one["index"], 1, one["latent_dim"])
    assert [f"{int(w):016x}" for w in words[0]] == one["words"]
    for bound, expected in (
        (None, one["normals"]),
        (one["truncated"]["truncation"], one["truncated"]["normals"]),
    ):
        np.testing.assert_allclose(normals(words[:, 1:], 3, bound)[0], expected, rtol=1e-7)
    example = Manifest.from_bytes(block("json manifest").encode(), "docs").spec.prior
    for case in vectors["latents"]:
        own = case["prior"]
        prior = example if own == "example" else Prior.from_json(own)
        options = {"truncation": case["truncation"]} if "truncation" in case else {}
        z = prior.sample(2, case.get("label"), case["seed"], start=case["start"], **options)
        np.testing.assert_allclose(z, case["z"], rtol=1e-6, atol=1e-6)


def philox(counter: int, key: int) -> list[int]:
    """Compute step 1 of the page with Python integers."""
    mask = 2**64 - 1
    c = [counter >> 64 * i & mask for i in range(4)]
    k = [key, 0]
    for _ in range(10):
        x, y = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [y >> 64 ^ c[1] ^ k[0], y & mask, x >> 64 ^ c[3] ^ k[1], x & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


@pytest.mark.parametrize("seed", [0, 2026, 2**64 - 1])
@pytest.mark.parametrize("dim", [1, 2, 3, 6, 7])
def test_random_words_follow_the_page(seed: int, dim: int) -> None:
    blocks = -(-(1 + dim + dim % 2) // 4)
    for index in (0, 5, 10**15):
        made = [w for b in range(blocks) for w in philox(index * blocks + b + 1, seed)]
        assert made == random_words(seed, index, 1, dim)[0].tolist()


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    """A later minor version may add keys; its graphs state the version too."""
    files = {
        name: raw.replace(b'{"format":"1.0"', b'{"format":"1.7"') for name, raw in GOOD.items()
    }
    manifest = json.loads(GOOD[NAME]) | {"format": "1.7", "colour": "blue"}
    path = tmp_path / "b.zip"
    path.write_bytes(pack(with_checksums(files, manifest)))
    use(path)
    with vae.load(path, device="cpu") as model:
        assert model.sample(1, 0, seed=0).shape == (1, 1, 8, 8)


def test_a_number_without_a_fraction_is_a_number(tmp_path: Path) -> None:
    spec = Manifest.from_bytes(block("json manifest").encode(), "docs").spec
    data = json.loads(json.dumps(spec.to_json())) | {"sigma": 1}
    assert ModelSpec.from_json(data, "x").sigma == 1.0


def test_what_is_not_finite_is_written_as_null() -> None:
    manifest = Manifest.from_bytes(GOOD[NAME], "x")
    training = {"loss": float("nan"), "each": [1.0, float("inf")], "name": "x"}
    raw = dataclasses.replace(manifest, training=training).to_bytes()
    again = Manifest.from_bytes(raw, "again")
    assert again.training == {"loss": None, "each": [1.0, None], "name": "x"}


def test_a_golden_label_out_of_range_is_refused(cvae: vae.Autoencoder) -> None:
    classes = len(cvae.spec.classes)
    for label in (-1, classes):
        with pytest.raises(errors.InputError, match=r"is out of range"):
            cvae.decode(np.zeros((1, cvae.spec.latent_dim), np.float32), label)


def test_golden_vectors_are_stored_as_numpy_writes_them() -> None:
    """Readers accept only the header that the page specifies."""
    raw = npz({"a": np.zeros((2, 3), np.float32)})
    assert struct.unpack_from("<H", raw, 8) == (0,), "stored"
    assert b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" in raw
