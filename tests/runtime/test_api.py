"""The public API: its names, and its results on every kind of bundle."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vae_runtime as vae
from vae_runtime.bundle.reader import EMBEDDED
from vae_runtime.errors import DeviceError, InputError, UsageError
from vae_runtime.images import to_uint8
from vae_runtime.inference.devices import CUDA
from vae_runtime.inference.session import onnxruntime

from .conftest import unpack

pytestmark = pytest.mark.torch_free


def test_public_names_are_pinned() -> None:
    assert vae.__all__ == [
        "load", "grid", "save", "Autoencoder", "Decoder", "Encoder", "Sampler", "Prior", "VaeError",
        "__version__",
    ]  # fmt: skip
    assert len(vae.__all__) <= 10
    assert all(getattr(vae, name) is not None for name in vae.__all__)
    assert set(vae.__all__) <= set(dir(vae))
    with pytest.raises(AttributeError, match="has no attribute 'torch'"):
        vae.torch  # noqa: B018


def test_public_methods_are_pinned() -> None:
    assert sorted(n for n in vars(vae.Autoencoder) if not n.startswith("_")) == [
        "close", "decode", "decoder", "detect", "device", "encode", "encoder", "evaluate",
        "interpolate", "learn_normality", "manifest", "normality", "posterior", "preload",
        "reconstruct", "sample", "sample_latents", "score", "spec", "stream", "traverse",
    ]  # fmt: skip


def test_package_is_typed() -> None:
    assert (resources.files("vae_runtime") / "py.typed").is_file()


def test_every_call_on_every_bundle(any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as model:
        c, h, w = model.spec.image.shape
        d = model.spec.latent_dim
        label = 3 if model.spec.classes else None
        images = model.sample(5, label=label, seed=0)
        assert images.dtype == np.float32
        assert images.shape == (5, c, h, w)
        assert images.min() >= 0
        assert images.max() <= 1
        latents = model.encode(images, label)
        assert (latents.dtype, latents.shape) == (np.float32, (5, d))
        assert model.decode(latents, label).shape == images.shape
        assert np.array_equal(model.reconstruct(images, label), model.decode(latents, label))
        assert model.traverse(dim=d - 1, steps=7, label=label).shape == (7, c, h, w)
        assert model.interpolate(images[0], images[1], 4, label).shape == (4, c, h, w)
        scores = model.score(images, label)
        assert [s.shape for s in scores] == [(5,)] * 3
        assert all(np.isfinite(s).all() for s in scores)
        assert (scores.kl == 0).all() == (model.spec.family == "ae")
        assert model.device == "cpu"


def test_a_folder_and_its_zip_give_the_same_images(cvae_path: Path, tmp_path: Path) -> None:
    unpack(cvae_path, tmp_path / "cvae")
    with vae.load(cvae_path) as a, vae.load(tmp_path / "cvae") as b, vae.load(str(cvae_path)) as c:
        expected = a.sample(3, label=1, seed=5)
        assert np.array_equal(b.sample(3, label=1, seed=5), expected)
        assert np.array_equal(c.sample(3, label=1, seed=5), expected)


@pytest.mark.skipif(not (EMBEDDED / "mnist.zip").is_file(), reason="there is no embedded bundle")
def test_embedded_bundle_is_a_cvae_on_mnist() -> None:
    with vae.load() as model, vae.load("mnist") as named:
        assert model.spec.id == named.spec.id
        assert model.spec.family == "cvae"
        assert model.sample(2, label=3, seed=0).shape == (2, 1, 28, 28)


def test_the_other_embedded_bundle_draws_clothes() -> None:
    with vae.load("fashion") as model:
        assert model.sample(2, label="sneaker", seed=0).shape == (2, 1, 28, 28)
        assert "--data fashion" in model.manifest.training["command"]
    assert all(path.stat().st_size < 5_000_000 for path in EMBEDDED.glob("*.zip"))


def test_labels_may_be_an_index_a_name_a_list_or_an_array(cvae: vae.Autoencoder) -> None:
    expected = cvae.sample(3, label=7, seed=1)
    for label in ("7", [7, 7, 7], ["7", "7", "7"], np.array([7, 7, 7]), np.int64(7)):
        assert np.array_equal(cvae.sample(3, label=label, seed=1), expected), label
    mixed = cvae.sample(3, label=[7, 8, 7], seed=1)
    assert np.array_equal(mixed[[0, 2]], expected[[0, 2]])
    assert not np.array_equal(mixed[1], expected[1])


def test_every_unambiguous_layout_is_accepted(cvae: vae.Autoencoder) -> None:
    images = cvae.sample(4, label=2, seed=0, dtype="uint8")
    expected = cvae.encode(images)
    for layout in (images[:, 0], images.transpose(0, 2, 3, 1), images.astype(np.float32) / 255):
        assert np.array_equal(cvae.encode(layout), expected)
    assert np.array_equal(cvae.encode(images[0]), expected[:1])
    assert np.array_equal(cvae.encode(images[0, 0]), expected[:1])
    fortran = np.asfortranarray(images)
    assert np.array_equal(cvae.encode(fortran), expected)


def test_sampling_options_change_the_latents(cvae: vae.Autoencoder) -> None:
    cold = cvae.sample_latents(64, label=3, seed=0, temperature=0)
    weights = cvae.spec.prior.weights
    assert weights is not None
    assert len(np.unique(cold.round(4), axis=0)) <= weights.shape[1]
    normal = cvae.sample_latents(2000, label=3, seed=0, prior="normal")
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    assert np.abs(cvae.sample_latents(500, seed=0, prior="normal", truncation=1.5)).max() <= 1.5
    fitted = cvae.sample_latents(2000, label=3, seed=0)
    mean, std = cvae.spec.prior.spread(3)
    assert np.abs(fitted.mean(axis=0) - mean).max() < 0.15
    assert np.abs(fitted.std(axis=0) - std).max() < 0.15
    other = cvae.sample_latents(2000, label=4, seed=0)
    assert not np.array_equal(fitted, other), "each class has its own mixture"


def test_empty_input_gives_empty_output(
    cvae: vae.Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_runtime.inference.session import Session

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the session was called")

    monkeypatch.setattr(Session, "run", never)
    c, h, w = cvae.spec.image.shape
    none = np.empty((0, c, h, w), np.float32)
    assert cvae.sample(0, seed=0).shape == none.shape
    assert cvae.sample(0, seed=0, dtype="uint8").dtype == np.uint8
    assert list(cvae.stream(0, seed=0)) == []
    assert cvae.encode(none).shape == (0, cvae.spec.latent_dim)
    assert cvae.decode(cvae.encode(none)).shape == none.shape
    assert cvae.score(none).mse.shape == (0,)


def test_uint8_output_is_the_nearest_level(any_bundle: Path) -> None:
    with vae.load(any_bundle) as model:
        floats = model.sample(300, seed=2)
        found = model.sample(300, seed=2, dtype="uint8")
        assert found.dtype == np.uint8
        assert np.array_equal(found, to_uint8(floats))


def test_a_traversal_moves_one_dimension(cvae: vae.Autoencoder) -> None:
    frames = cvae.traverse(dim=1, steps=5, label=3, seed=9, span=2)
    z = np.repeat(cvae.sample_latents(1, label=3, seed=9), 5, axis=0)
    mean, std = cvae.spec.prior.spread(3)
    z[:, 1] = np.linspace(mean[1] - 2 * std[1], mean[1] + 2 * std[1], 5)
    assert np.array_equal(frames, cvae.decode(z, 3))
    image = cvae.sample(1, label=3, seed=4)
    frames = cvae.traverse(dim=1, steps=3, label=3, image=image)
    fixed = np.delete(np.repeat(cvae.encode(image, 3), 3, axis=0), 1, axis=1)
    z = np.insert(fixed, 1, np.linspace(mean[1] - 3 * std[1], mean[1] + 3 * std[1], 3), axis=1)
    assert np.array_equal(frames, cvae.decode(z, 3))


def test_an_interpolation_includes_both_ends(cvae: vae.Autoencoder) -> None:
    a, b = cvae.sample_latents(2, label=5, seed=0)
    for how in ("linear", "spherical"):
        frames = cvae.interpolate(a, b, steps=5, label=5, how=how)
        ends = cvae.decode(np.stack([a, b]), 5)
        np.testing.assert_allclose(frames[[0, -1]], ends, atol=1e-6)
    straight = cvae.interpolate(a, b, steps=3, label=5)[1]
    np.testing.assert_allclose(straight, cvae.decode((a + b) / 2, 5)[0], atol=1e-6)


def test_scores_follow_their_definition(cvae: vae.Autoencoder) -> None:
    images = cvae.sample(6, label=1, seed=0)
    scores = cvae.score(images, 1, samples=3, seed=7)
    mu, log_var = cvae.posterior(images, 1)
    assert log_var is not None
    error = ((cvae.decode(mu, 1) - images).astype(np.float64) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(scores.mse, error, rtol=1e-12)
    m, v = mu.astype(np.float64), log_var.astype(np.float64)
    np.testing.assert_allclose(scores.kl, 0.5 * (m**2 + np.exp(v) - 1 - v).sum(1), rtol=1e-12)
    assert (scores.negative_elbo > scores.kl).all()
    assert np.array_equal(scores.negative_elbo, cvae.score(images, 1, samples=3, seed=7)[2])
    part = cvae.score(images[4:], 1, samples=3, seed=7, start=4)
    assert np.array_equal(scores.negative_elbo[4:], part.negative_elbo)


def test_a_missing_variant_is_refused(cvae_path: Path) -> None:
    with pytest.raises(vae.VaeError, match=r"has no variant 'int4', expected one of: .*fp32"):
        vae.load(cvae_path, variant="int4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, r"^device is 'gpu', expected auto, cpu, cuda or cuda:N, or another"),
        ({"threads": 0}, r"^threads is 0, expected a whole number, 1 or more$"),
        ({"threads": 1.5}, r"^threads is 1\.5, expected"),
    ],
)
def test_load_checks_its_arguments_at_once(
    cvae_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        vae.load(cvae_path, **options)


@pytest.mark.skipif(CUDA in onnxruntime().get_available_providers(), reason="CUDA may work here")
def test_load_refuses_a_missing_device_at_once(cvae_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^device cuda:0: not available: "):
        vae.load(cvae_path, device="cuda")


def test_reprs_are_short_and_say_what_a_thing_is(cvae: vae.Autoencoder) -> None:
    cvae.sample(1, seed=0)
    scores = cvae.score(cvae.sample(3, 1, seed=0), 1)
    assert repr(cvae.spec.prior) == "<Prior class_gmm, latent_dim 6, 11 × 2 Gaussians>"
    assert repr(cvae.spec) == (
        f"<ModelSpec {cvae.spec.id}: cvae of 8×8 L images, latent_dim 6, 10 classes>"
    )
    assert repr(cvae).endswith("cvae_conv.zip': cvae of 8×8 L images, latent_dim 6, 10 classes>")
    assert repr(cvae.decoder()) == (
        "<Decoder: decoder of cvae of 8×8 L images, latent_dim 6, 10 classes; z → image; cpu>"
    )
    assert repr(scores).startswith("<Scores of 3 images: mean mse 0.")
    for thing in (cvae, cvae.manifest, cvae.encoder(), scores, cvae._bundle):
        assert len(repr(thing)) < 300, thing
    cvae.close()
    assert repr(cvae).endswith("10 classes (closed)>")


def test_a_notebook_shows_samples_and_scores(any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as model:
        scores = model.score(model.sample(12, seed=0))
        page = model._repr_html_()
        png = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
        assert Image.open(io.BytesIO(png)).size == (10 * 10 * 8 - 16, 64)
        assert model.spec.summary in page
    assert "This model was closed." in model._repr_html_()
    table = scores._repr_html_()
    assert table.count("<tr>") == 1 + 1 + 10 + 1, "head, mean, ten images, an ellipsis"
    assert f"{scores.mse.mean():.6g}" in table


def test_an_interpolation_between_classes_blends_both_decodes(cvae: vae.Autoencoder) -> None:
    a, b = cvae.sample_latents(2, label=[1, 8], seed=0)
    frames = cvae.interpolate(a, b, 5, label=(1, "8"))
    z = np.linspace(a, b, 5)
    t = np.linspace(0, 1, 5)[:, None, None, None]
    expected = (1 - t) * cvae.decode(z, 1) + t * cvae.decode(z, 8)
    np.testing.assert_allclose(frames, expected, atol=1e-5)
    assert np.array_equal(cvae.interpolate(a, b, 5, (1, 8), dtype="uint8"), to_uint8(frames))
    assert np.array_equal(cvae.interpolate(a, b, 5, (1, 1)), cvae.interpolate(a, b, 5, 1))
    with pytest.raises(UsageError, match="label has 3 classes, expected one, or one per end"):
        cvae.interpolate(a, b, 5, label=(1, 2, 3))  # type: ignore[arg-type]


def test_a_decoder_samples_what_the_model_samples(any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as model:
        label = [i % 3 for i in range(300)] if model.spec.classes else None
        options = {"seed": 3, "temperature": 0.8, "truncation": 2.0, "dtype": "uint8"}
        decoder = model.decoder(conditional=bool(label), dtype="uint8")
        found = decoder.sample(300, label, **options)  # type: ignore[arg-type]
        assert np.array_equal(found, model.sample(300, label, **options))  # type: ignore[arg-type]


def test_a_prior_takes_class_names(cvae: vae.Autoencoder) -> None:
    prior = cvae.spec.prior
    expected = prior.sample(4, label=3, seed=0)
    assert np.array_equal(prior.sample(4, label="3", seed=0), expected)
    assert np.array_equal(prior.sample(4, label=["3"] * 4, seed=0), expected)
    with pytest.raises(UsageError, match=r"^label: unknown class 'three', expected one of: 0, 1,"):
        prior.sample(4, label="three")
    with pytest.raises(UsageError, match=r"^label: 'three', but there are no class names here"):
        replace(prior, classes=()).sample(4, label="three")


@pytest.mark.parametrize("images", ["a.png", Path("a.png"), ["a.png"], [Path("a.png")], b"\x89PNG"])
def test_a_path_in_place_of_images_gets_advice(cvae: vae.Autoencoder, images: Any) -> None:
    with pytest.raises(InputError, match=r"is text or a path, .*read_image\(path\)$"):
        cvae.encode(images)
