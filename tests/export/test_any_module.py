"""Typical user modules export and match their torch results, or are refused with a reason."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vae_runtime as vae
from tests.export import any_modules as theirs
from vae_export import export
from vae_runtime.datasets import Dataset, load_dataset
from vae_runtime.errors import InputError, IntegrityError, UsageError

CLASSES = tuple("0123456789")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits").take(slice(0, 100))


def old_weight_norm() -> nn.Module:
    module = theirs.Plain()
    with pytest.warns(FutureWarning):
        module.down = nn.utils.weight_norm(module.down)
    return module


def compiled() -> Any:
    with warnings.catch_warnings(action="ignore"):  # torch warns of itself
        return torch.compile(theirs.Plain())


WORKS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "attention": (theirs.SelfAttention, {}, "vae"),
    "pixels folded into the batch": (theirs.PixelLayer, {}, "vae"),
    "tensors kept from training": (theirs.Cached, {}, "vae"),
    "weight_norm": (old_weight_norm, {}, "vae"),
    "mu, log_var and a sample": (theirs.Sampled, {}, "vae"),
    "casts to float64 and back": (theirs.Casts, {}, "vae"),
    "float64 weights": (theirs.Doubled, {}, "vae"),
    "flattened pixels": (theirs.Flattened, {}, "vae"),
    "heads outside": (theirs.Heads, {}, "vae"),
    "heads without names": (theirs.UnnamedHeads, {}, "vae"),
    "halves of one tensor": (theirs.Halves, {}, "vae"),
    "signed": (theirs.Signed, {"image_range": "signed"}, "vae"),
    "DataParallel": (lambda: nn.DataParallel(theirs.Plain()), {}, "vae"),
    "torch.compile": (compiled, {}, "vae"),
    "a wrapper of a wrapper": (
        lambda: theirs.Wrapper(nn.DataParallel(theirs.Plain())), {}, "vae",
    ),
    "one-hot, said": (theirs.OneHot, {"classes": CLASSES, "one_hot": True}, "cvae"),
    "one-hot, found": (theirs.OneHot, {"classes": CLASSES}, "cvae"),
    "indices, by keyword": (theirs.Indices, {"classes": CLASSES}, "cvae"),
    "rows by hand: scatter": (theirs.ByHand, {"classes": CLASSES}, "cvae"),
    "rows by hand: eye": (
        lambda: theirs.ByHand(theirs.from_identity), {"classes": CLASSES}, "cvae",
    ),
    "rows by hand: arange": (lambda: theirs.ByHand(theirs.compared), {"classes": CLASSES}, "cvae"),
    "a label that is None": (theirs.Unlabelled, {}, "vae"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_a_module_equals_its_bundle(name: str, digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, options, family = WORKS[name]
    module = make()
    lines: list[str] = []
    exported = export(module, tmp_path / "b", digits, log=lines.append, **options)
    assert exported.manifest.spec.family == family
    assert exported.manifest.parity["forward"]["max_abs_difference"] < 1e-4
    assert any(line.startswith("forward: reconstructs the same 100 images") for line in lines)
    images = digits.images[:5]
    label = None if digits.labels is None or family == "vae" else digits.labels[:5]
    with vae.load(tmp_path / "b") as model:
        found = model.reconstruct(images, label)
        assert model.sample(3, None if label is None else 2, seed=0).shape == (3, 1, 8, 8)
    np.testing.assert_allclose(found, itself(module, images, label, options), atol=1e-5)


def itself(
    module: nn.Module, images: np.ndarray, label: np.ndarray | None, options: dict[str, Any]
) -> np.ndarray:
    """Reconstruct with the user's module from mu, by explicit calls."""
    while not any(hasattr(module, name) for name in ("encode", "encoder", "enc")):
        module = next(module.children())
    module = module.eval()
    x = torch.from_numpy(images).float() / 255
    signed = options.get("image_range") == "signed"
    x = 2 * x - 1 if signed else x
    with torch.no_grad():
        if isinstance(module, theirs.Heads):
            image = module(x)["recon_x"]
        elif isinstance(module, theirs.UnnamedHeads):
            image = module.decoder(module.fc1(module.encoder(x).flatten(1)))
        elif isinstance(module, theirs.Halves):
            image = module.dec(module.enc(x)[:, :2])
        elif isinstance(module, theirs.Flattened):
            image = module(x)[0].view(-1, 1, 8, 8)
        elif isinstance(module, theirs.Unlabelled):
            image = module(x)
        elif label is not None:
            y = torch.from_numpy(label)
            indices = isinstance(module, theirs.Indices | theirs.ByHand)
            y = y if indices else torch.eye(theirs.K)[y]
            image = module(x, y)
        else:
            image = module.decode(module.encode(x)[0])
    return ((image + 1) / 2 if signed else image).clamp(0, 1).numpy()


def test_no_label_is_an_equal_mix_of_one_hot_rows(digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    by_hand = map(theirs.ByHand, (theirs.scattered, theirs.from_identity, theirs.compared))
    for module in (theirs.OneHot(), theirs.Indices(), *by_hand):
        export(module, tmp_path / "b", digits, classes=CLASSES)
        with vae.load(tmp_path / "b") as model:
            z = model.sample_latents(4, seed=1)
            found = model.decode(z)
        mix = torch.full((4, theirs.K), 1 / theirs.K)
        with torch.no_grad():
            expected = theirs.OneHot.decode(module, torch.from_numpy(z), mix).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "a layer between": (
        lambda: theirs.Heads(between=True), {}, IntegrityError,
        r"^forward: its images differ .* of a pixel\. from_z runs in forward, but neither",
    ),
    "heads in reverse": (
        theirs.HeadsInReverse, {}, IntegrityError, r"add methods encode and decode",
    ),
    "rescaled": (theirs.Rescaled, {}, IntegrityError, r"forward probably rescales or adds"),
    "signed, not said": (theirs.Signed, {}, UsageError, r"Set image_range \(--image-range\)"),
    "LSTM": (
        theirs.LongShortTermMemory, {}, InputError, r"the operator 'LSTM' is not allowed",
    ),
    "classes that nothing takes": (
        theirs.Plain, {"classes": CLASSES}, UsageError, r"^decode: takes no label, but classes",
    ),
    "labels that are not said": (
        theirs.OneHot, {}, UsageError, r"^encode: also takes y, .* pass classes if these are",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_is_refused_with_the_reason(name: str, digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, options, kind, pattern = REFUSED[name]
    with pytest.raises(kind, match=pattern):
        export(make(), tmp_path / "b", digits, **options)
    assert not (tmp_path / "b").exists()


def test_forward_may_mean_something_else(digits: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported = export(theirs.Rescaled(), tmp_path / "b", digits, compare_forward=False)
    assert "forward" not in exported.manifest.parity


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_mode_and_latents_of_any_shape(channels: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = Dataset("stack", rng.integers(0, 256, (40, channels, 8, 8), dtype=np.uint8))
    module = theirs.Spatial(channels, 4).eval()
    exported = export(module, tmp_path / "b", data)
    spec = exported.manifest.spec
    assert spec.image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    assert spec.latent_shape == (4, 4, 4)
    with vae.load(tmp_path / "b", device="cpu") as model, torch.no_grad():
        image = torch.from_numpy(data.images[:3]) / 255
        mu = module.encode(image)[0]
        np.testing.assert_allclose(model.encode(data.images[:3]), mu, atol=1e-5)
        np.testing.assert_allclose(model.decode(mu.numpy()), module.decode(mu), atol=1e-5)
        assert model.sample(2, seed=0).shape == (2, channels, 8, 8)


def test_five_channels_are_refused_before_any_work() -> None:
    data = Dataset("stack", np.zeros((4, 5, 8, 8), np.uint8))
    with pytest.raises(UsageError, match=r"^stack: 5 channels, but a bundle holds"):
        export(theirs.Plain(), None, data)


@pytest.mark.parametrize("kind", ["auto", "gmm", "gaussian"])
def test_long_latents_get_a_low_rank_prior(kind: str, tmp_path: Path) -> None:
    """The latents of images with two factors have two directions, in 1,024 dimensions."""
    rng = np.random.default_rng(0)
    factors, patterns = rng.random((400, 2)), rng.random((2, 1, 32, 32))
    pixels = np.tensordot(factors, patterns, 1) / 2 + rng.random((400, 1, 32, 32)) / 50
    data = Dataset("two factors", (pixels * 250).astype(np.uint8))
    lines: list[str] = []
    exported = export(theirs.Spatial(1, 4), tmp_path / "b", data, prior=kind, log=lines.append)
    prior = exported.manifest.spec.prior
    assert (prior.latent_dim, prior.kind) == (1024, "gmm" if kind == "auto" else kind)
    assert 2 <= prior.coordinates <= 64
    assert any("principal directions of 1,024 dimensions" in line for line in lines)
    assert len(json.dumps(prior.to_json())) < 2_000_000
    with vae.load(tmp_path / "b", device="cpu") as model:
        latents = model.encode(data.images).reshape(400, -1)
        mean, std = prior.spread()
        np.testing.assert_allclose(mean, latents.mean(0), atol=0.1)
        drawn = model.sample_latents(400, seed=0).reshape(400, -1)
        np.testing.assert_allclose(drawn.std(0), std, rtol=0.4)
        assert model.traverse(0, 5).shape == (5, 1, 32, 32)
        with pytest.raises(UsageError, match=r"^dim is 1000, expected a whole number, 0 to"):
            model.traverse(1000)


def test_too_few_long_latents_get_a_normal_prior_and_say_so() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), dtype=np.uint8)
    lines: list[str] = []
    exported = export(theirs.Spatial(3, 4), None, Dataset("noise", noise), log=lines.append)
    assert exported.manifest.spec.prior.kind == "normal"
    assert any(line.startswith("prior: N(0, I), which explains") for line in lines)


def test_saturated_pixels_are_reported(digits: Dataset) -> None:
    torch.manual_seed(0)
    module = theirs.Signed()
    with torch.no_grad():
        module.up.bias.fill_(5)
    lines: list[str] = []
    export(module, None, digits, image_range="signed", log=lines.append)
    assert any("of all pixels are at a bound after clipping" in line for line in lines)


def test_a_costly_module_uses_fewer_images_and_rows_and_gives_the_same_bytes(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_export.cost.MAX_WORK", 1e5)
    torch.manual_seed(0)
    module = theirs.Plain()  # 1,024 operations to encode an image, 512 to decode one
    lines: list[str] = []
    exported = export(module, None, digits, log=lines.append)
    assert exported.manifest.parity["rows"] == {"encoder": 9, "decoder": 19}
    assert exported.manifest.parity["batches"]["encoder"] == [0, 1, 2, 7, 9]
    assert exported.manifest.parity["forward"]["images"] == 9
    for start in ("prior: fitted to 97 of 100 images, since one takes ",
                  "encoder: checks 9 of 100 rows, since ", "decoder: checks 19 of "):  # fmt: skip
        assert any(line.startswith(start) for line in lines), start
    again = export(module, None, digits)
    assert again.files == exported.files
    assert again.manifest.to_bytes() == exported.manifest.to_bytes()


def test_a_module_that_relies_on_float64_is_warned_of(digits: Dataset) -> None:
    torch.manual_seed(0)
    lines: list[str] = []
    export(theirs.Cancels(), None, digits, log=lines.append)
    (warning,) = [line for line in lines if line.startswith("warning: ")]
    assert warning.startswith("warning: decoder.image: float32 differs from float64 by ")
