"""The sampler graph: the prior and the decoder in one, for every kind of prior."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import vae_runtime as vae
from tests.export.any_modules import OneHot
from tests.runtime.test_prior import PRIORS, low_rank, mixture
from vae_export import export
from vae_export.graphs import Graph
from vae_export.sampler import make_samplers, sampler_rows
from vae_runtime.bundle.reader import open_bundle
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import IntegrityError
from vae_runtime.inference.session import Session
from vae_runtime.prior import Prior

DATA = Path(__file__).parents[1] / "data"
D = 6  # of the convolutional test bundles
MADE = {
    **{name: prior for name, prior in PRIORS.items() if name in ("normal", "uniform")},
    "gaussian": mixture("gaussian", 1, 1, D),
    "gmm": mixture("gmm", 1, 4, D),
    "class_gmm": mixture("class_gmm", 11, 4, D),
    "low-rank": low_rank("class_gmm", 11, 4, D, 2),
    "normal": Prior.normal(D),
    "uniform": Prior("uniform", D, low=np.linspace(-2, 1, D), high=np.linspace(0, 4, D)),
}


def sampler_of(name: str, prior: Prior) -> tuple[bytes, Any, Any]:
    """Build the sampler of a stored bundle's decoder with another prior."""
    bundle = open_bundle(DATA / f"{name}.zip")
    spec = replace(bundle.manifest.spec, prior=prior)
    role = "conditional_decoder" if spec.classes else "decoder"
    found = bundle.manifest.graph(role)
    assert found is not None
    inputs = ("z", "label") if spec.classes else ("z",)
    graph = Graph(role, Any, inputs, ("image",))  # type: ignore[arg-type]
    rows = sampler_rows(spec, 300)
    made = make_samplers(graph, [(found, bytes(bundle.read(found.file)))], spec, rows)
    assert max(made.errors.values()) <= 1e-6
    return made.files["sampler.onnx"], spec, rows


@pytest.mark.parametrize("kind", MADE)
def test_the_sampler_is_the_prior_and_the_decoder(kind: str) -> None:
    raw, spec, rows = sampler_of("cvae_conv", MADE[kind])
    with Session(raw, device="cpu") as session:
        image, z = session.run(["image", "z"], **rows)
    expected = spec.prior.transform(rows["noise"], rows["label"])
    np.testing.assert_allclose(z, expected, rtol=1e-6, atol=1e-6)
    with vae.load(DATA / "cvae_conv.zip", device="cpu") as model:
        known = rows["label"] < len(spec.classes)
        decoded = model.decode(z[known], rows["label"][known])
        np.testing.assert_allclose(image[known], decoded, atol=1e-6)
        np.testing.assert_allclose(image[~known], model.decode(z[~known]), atol=1e-6)


@pytest.mark.parametrize("kind", MADE)
def test_normals_become_the_distribution_that_sample_draws_from(kind: str) -> None:
    prior = MADE[kind]
    noise = np.random.default_rng(1).standard_normal((100_000, D + 1)).astype(np.float32)
    ours, theirs = prior.transform(noise, 3), prior.sample(100_000, 3, seed=2)
    mean, std = prior.spread(3)
    assert np.abs((ours.mean(0) - theirs.mean(0)) / std).max() < 0.03
    assert np.abs(ours.std(0) / theirs.std(0) - 1).max() < 0.03
    np.testing.assert_allclose(ours.mean(0), mean, atol=0.03 * std.max())
    quantiles = [0.01, 0.25, 0.75, 0.99]
    apart = np.quantile(ours, quantiles, axis=0) - np.quantile(theirs, quantiles, axis=0)
    assert np.abs(apart / std).max() < 0.06


def test_a_component_is_picked_as_often_as_its_weight() -> None:
    prior = MADE["gmm"]
    assert prior.weights is not None
    assert prior.mean is not None
    noise = np.zeros((50_000, D + 1), np.float32)
    noise[:, 0] = np.random.default_rng(0).standard_normal(50_000)
    found, counts = np.unique(prior.transform(noise), axis=0, return_counts=True)
    order = [int(np.abs(prior.mean[0] - z).sum(1).argmin()) for z in found]
    np.testing.assert_allclose(counts / 50_000, prior.weights[0][order], atol=0.01)


def test_a_sampler_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_export import sampler

    real = sampler._component
    monkeypatch.setattr(sampler, "_component", lambda add, prior: add("Sub", real(add, prior),
                        np.array(1)))  # fmt: skip
    with pytest.raises(
        IntegrityError, match=r"^sampler\.onnx\.z: error .* compared with the prior"
    ):
        sampler_of("vae_conv", MADE["gmm"])


def test_export_writes_samplers_for_all_variants(tmp_path: Path) -> None:
    digits = load_dataset("digits").take(slice(0, 100))
    options: dict[str, Any] = {"classes": tuple("0123456789"), "tolerance": 2.0}
    module = OneHot()
    exported = export(module, tmp_path / "b", digits, variants=("uint8", "fp16"), **options)
    names = {graph.file.file for graph in exported.manifest.graphs if graph.role == "sampler"}
    assert names == {"sampler.onnx", "sampler.uint8.onnx", "sampler.fp16.onnx"}
    assert set(exported.manifest.parity["sampler"]) == {
        f"{name.removesuffix('.onnx')}.{output}" for name in names for output in ("image", "z")
    }
    without = export(module, None, digits, sampler=False, **options)
    assert all(graph.role != "sampler" for graph in without.manifest.graphs)
    assert without.manifest.spec.id == exported.manifest.spec.id


def test_large_decoders_are_not_repeated_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_export import pipeline

    monkeypatch.setattr(pipeline, "MAX_DECODER", 1000)
    noise = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    data, lines = Dataset("noise", noise), list[str]()
    options: dict[str, Any] = {"log": lines.append, "tolerance": 2.0}
    from tests.export.any_modules import Plain

    assert export(Plain(), None, data, **options).manifest.graph("sampler") is None
    assert any(line.startswith("sampler: not written, since") for line in lines)
    assert export(Plain(), None, data, sampler=True, **options).manifest.graph("sampler")


@pytest.mark.parametrize("bundle", ["cvae_conv", "vae_mlp"])
def test_onnxruntime_and_numpy_alone_draw_an_image(bundle: str, tmp_path: Path) -> None:
    raw, spec, _ = sampler_of(bundle, open_bundle(DATA / f"{bundle}.zip").manifest.spec.prior)
    (tmp_path / "sampler.onnx").write_bytes(raw)
    label = "label=np.array([3])" if spec.classes else ""
    program = f"""
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("sampler.onnx", providers=["CPUExecutionProvider"])
noise = np.random.default_rng(0).standard_normal((1, {spec.latent_dim + 1}), np.float32)
image, z = session.run(["image", "z"], dict(noise=noise, {label}))
np.save("image.npy", image)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    image: NDArray[np.float32] = np.load(tmp_path / "image.npy")
    assert image.shape == (1, *spec.image.shape)
    assert 0 <= image.min() < 0.1
    assert 0.5 < image.max() <= 1


def test_the_graph_adds_only_the_prior() -> None:
    raw, _, _ = sampler_of("cvae_conv", MADE["class_gmm"])
    operators = [node.op_type for node in onnx.load_from_string(raw).graph.node]
    assert operators.count("Erf") == 1
    bundle = open_bundle(DATA / "cvae_conv.zip")
    decoder = bundle.manifest.graph("conditional_decoder")
    assert decoder is not None
    inside = onnx.load_from_string(bytes(bundle.read(decoder.file))).graph.node
    assert operators[-len(inside) :] == [node.op_type for node in inside]
