"""Use a single `.onnx` file: from a path, from bytes or from an existing session."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae
from tests.security.build import SOUND as OTHER_GRAPH
from vae_runtime.bundle.checksums import graph_with_checksum
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.bundle.spec import ImageSpec, ModelSpec
from vae_runtime.errors import InputError, NotFound, UsageError
from vae_runtime.graph_checks import check_graph
from vae_runtime.graph_source import read_graph
from vae_runtime.graphs import Graph, check_tensors
from vae_runtime.images import to_uint8
from vae_runtime.inference.session import onnxruntime
from vae_runtime.prior import Prior

from .conftest import DATA, unpack

pytestmark = pytest.mark.torch_free


def graph_bytes(path: Path, role: str, variant: str = "fp32") -> bytes:
    bundle = open_bundle(path)
    spec = bundle.manifest.graph(role, variant)
    assert spec is not None
    return bundle.read(spec.file)


def test_a_decoder_opens_from_a_path_bytes_or_a_session(cvae_path: Path, tmp_path: Path) -> None:
    raw = graph_bytes(cvae_path, "conditional_decoder")
    (tmp_path / "d.onnx").write_bytes(raw)
    session = onnxruntime().InferenceSession(raw, providers=["CPUExecutionProvider"])
    with vae.load(cvae_path) as model:
        z = model.sample_latents(5, label=3, seed=0)
        expected = model.decode(z, 3)
    for source in (tmp_path / "d.onnx", str(tmp_path / "d.onnx"), raw, session):
        with vae.Decoder(source) as decoder:
            assert np.array_equal(decoder(z, label=3), expected)
            assert np.array_equal(decoder(z, label="3", dtype="uint8"), np.rint(expected * 255))
            assert np.array_equal(decoder(z[0], label=3), expected[:1])
            assert (decoder.role, decoder.variant) == ("conditional_decoder", "fp32")
            assert decoder.spec.classes == tuple("0123456789")
            assert decoder.device == "cpu"
    assert session.get_inputs(), "closing the decoder must not close the caller's session"


def test_an_encoder_alone_equals_the_encoder_of_the_model(any_bundle: Path) -> None:
    with vae.load(any_bundle) as model, vae.Encoder(graph_bytes(any_bundle, "encoder")) as encoder:
        images = model.sample(3, seed=0)
        assert np.array_equal(encoder(images), model.encode(images))
        mu, log_var = encoder.posterior(images)
        assert (log_var is None) == (model.spec.family == "ae")
        assert mu.shape == (3, model.spec.latent_dim)


def test_the_tensors_of_every_graph_match_its_spec(any_bundle: Path) -> None:
    bundle = open_bundle(any_bundle)
    for spec in bundle.manifest.graphs:
        contents = check_graph(bundle.read(spec.file), "x")
        with Graph(bundle.read(spec.file)) as graph:
            assert (graph.role, graph.variant) == (spec.role, spec.variant)
            for read, loaded, given in (
                (contents.inputs, graph.session.inputs, spec.inputs),
                (contents.outputs, graph.session.outputs, spec.outputs),
            ):
                types = {"float32": "tensor(float)"}
                expected = [
                    (t.name, types.get(t.dtype, f"tensor({t.dtype})"), list(t.shape)) for t in given
                ]
                for found in (read, loaded):
                    tensors: Any = found.values()
                    assert [(t.name, t.type, list(t.shape)) for t in tensors] == expected


def test_without_a_label_a_conditional_decoder_uses_the_null_label(cvae_path: Path) -> None:
    with vae.load(cvae_path) as model:
        z = model.sample_latents(4, seed=0)
        raw = graph_bytes(cvae_path, "conditional_decoder")
        with vae.Decoder(raw) as decoder:
            np.testing.assert_allclose(decoder(z), model.decode(z), atol=1e-6)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(NotFound) as caught:
        vae.Decoder("nowhere.onnx")
    expected = "nowhere.onnx: no such file. Expected an .onnx file of a bundle."
    assert str(caught.value) == expected


def test_a_graph_of_another_role_is_refused(cvae_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        vae.Decoder(graph_bytes(cvae_path, "encoder"))
    assert str(caught.value) == (
        "graph: the role of this graph is encoder, expected decoder or conditional_decoder"
    )


def test_a_graph_without_metadata_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        vae.Decoder(OTHER_GRAPH)
    assert str(caught.value) == (
        "graph: not a graph of a bundle: it carries no vae_onnx metadata. "
        "Export it with vae-export."
    )


def test_a_graph_without_metadata_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(OTHER_GRAPH)
    with pytest.raises(InputError, match=r"x\.onnx: not a graph of a bundle: it carries no vae_on"):
        read_graph(path)


def test_a_graph_that_does_not_match_its_spec_is_refused(vae_path: Path) -> None:
    raw = graph_bytes(vae_path, "decoder")
    with pytest.raises(InputError) as caught:
        vae.Decoder(graph_with_checksum(raw.replace(b'"height":8', b'"height":9')))
    assert str(caught.value) == (
        "graph: its tensors [('image', 'tensor(float)', [1, 8, 8])] do not fit its spec, "
        "which has [('image', 'tensor(float)', [1, 9, 8])]"
    )


SPEC = ModelSpec("id", "cvae", ImageSpec(1, 4, 5), (2,), ("a",), "bernoulli", Prior.normal(2))
FITS: dict[str, Any] = {"z": ["batch", 2], "label": ["n"], "image": [None, 1, 4, 5]}


@pytest.mark.parametrize(
    "change",
    [{}, {"z": [1, 2]}, {"z": ["batch", 3]}, {"label": []}, {"label": [1]},
     {"image": ["batch", 1, 4]}, {"image": [7, 1, 4, 5]}],
)  # fmt: skip
def test_only_the_first_axis_may_differ_from_the_spec(change: dict[str, Any]) -> None:
    types = {"label": "tensor(int64)"}
    found = {
        name: SimpleNamespace(name=name, type=types.get(name, "tensor(float)"), shape=shape)
        for name, shape in (FITS | change).items()
    }
    image = {"image": found.pop("image")}
    session: Any = SimpleNamespace(inputs=found, outputs=image)
    if not change:
        check_tensors(session, SPEC, "conditional_decoder", "fp32", "x")
        return
    with pytest.raises(InputError, match=r"^x: its tensors .* do not fit its spec, which has "):
        check_tensors(session, SPEC, "conditional_decoder", "fp32", "x")


def test_bytes_that_are_not_onnx_are_refused() -> None:
    with pytest.raises(InputError, match=r"^graph: refused: not ONNX: "):
        vae.Decoder(b"not a graph")


def test_a_label_for_a_decoder_without_labels_is_refused(cvae_path: Path, vae_path: Path) -> None:
    for path, message in (
        (cvae_path, "this cvae decoder takes no label"),
        (vae_path, "this vae takes no label"),
    ):
        with vae.Decoder(graph_bytes(path, "decoder")) as decoder:
            z = np.zeros((1, decoder.spec.latent_dim), np.float32)
            with pytest.raises(UsageError, match=f"^{message}$"):
                decoder(z, label=1)


def test_an_unknown_dtype_is_refused(vae_path: Path) -> None:
    with vae.Decoder(graph_bytes(vae_path, "decoder")) as decoder:
        z = np.zeros((1, decoder.spec.latent_dim), np.float32)
        with pytest.raises(UsageError, match=r"^dtype is 'int8', expected 'float32' or 'uint8'$"):
            decoder(z, dtype="int8")


def test_a_graph_of_another_bundle_is_refused(cvae_path: Path, vae_path: Path) -> None:
    bundle, raw = open_bundle(vae_path), graph_bytes(cvae_path, "encoder")
    entry = bundle.manifest.graph("encoder")
    assert entry is not None
    with vae.Encoder(raw) as encoder, pytest.raises(InputError) as caught:
        vae.Encoder(raw, known=(bundle, entry))
    assert str(caught.value) == (
        f"{vae_path}/encoder.onnx: belongs to bundle {encoder.spec.id}, "
        f"expected {bundle.manifest.spec.id}. Export again."
    )
    vae.Encoder(graph_bytes(vae_path, "encoder"), known=(bundle, entry)).close()


def test_uint8_images_come_from_the_uint8_graph_without_another_pass(
    variants_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_runtime.inference import batching

    def never(*_: object) -> None:
        raise AssertionError("a second pass over the pixels")

    with vae.load(variants_path) as model:
        expected = np.rint(model.sample(9, label=3, seed=0) * np.float32(255))
        monkeypatch.setattr(batching, "quantise", never)
        assert np.array_equal(model.sample(9, label=3, seed=0, dtype="uint8"), expected)
        assert model.sample(2, seed=0, dtype="uint8").dtype == np.uint8


def test_a_uint8_graph_returns_no_floats(variants_path: Path) -> None:
    with vae.Decoder(graph_bytes(variants_path, "decoder", "uint8")) as decoder:
        z = np.zeros((1, decoder.spec.latent_dim), np.float32)
        assert decoder.variant == "uint8"
        assert decoder(z, dtype="uint8").dtype == np.uint8
        with pytest.raises(UsageError) as caught:
            decoder(z)
        assert str(caught.value) == "this decoder returns uint8 only. Pass dtype='uint8'."


def test_a_half_precision_variant_gives_almost_the_same_images(variants_path: Path) -> None:
    with vae.load(variants_path) as full, vae.load(variants_path, variant="fp16") as half:
        expected, found = full.sample(9, 3, seed=0), half.sample(9, 3, seed=0)
        assert found.dtype == np.float32
        assert 0 < np.abs(found - expected).max() < 0.01
        assert np.array_equal(half.encode(expected), full.encode(expected)), (
            "the encoder is the same"
        )
        assert half.sample(2, seed=0, dtype="uint8").dtype == np.uint8


@pytest.mark.parametrize("name", ["cvae_conv", "vae_mlp", "ae_conv"])
def test_a_sampler_turns_noise_into_images(name: str, tmp_path: Path) -> None:
    unpack(DATA / f"{name}.zip", tmp_path)
    with (
        vae.Sampler(tmp_path / "sampler.onnx", device="cpu") as sampler,
        vae.load(tmp_path, device="cpu") as model,
    ):
        size = model.spec.latent_dim + 1
        noise = np.random.default_rng(0).standard_normal((300, size), np.float32)
        label = "3" if model.spec.classes else None
        images = sampler(noise, label)
        index = 3 if model.spec.classes else None
        expected = model.decode(model.spec.prior.transform(noise, index), label)
        np.testing.assert_allclose(images, expected, atol=1e-5)
        assert np.array_equal(sampler(noise[0], label), images[:1])
        pixels = sampler(noise, label, dtype="uint8")
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, to_uint8(images))
        with pytest.raises(InputError, match=r"^noise: shape \[300, \d+\], expected \[N, \d+\]$"):
            sampler(noise[:, 1:], label)
        with pytest.raises(InputError, match="the role of this graph is sampler, expected decoder"):
            vae.Decoder(tmp_path / "sampler.onnx", device="cpu")
