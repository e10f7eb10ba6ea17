"""Latents of several axes: every call, and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from tests.conformance.bundles import bundle
from vae_runtime.bundle.archive import pack
from vae_runtime.errors import InputError

from .conftest import Run

pytestmark = pytest.mark.torch_free


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An autoencoder of 2×2 images with latents of 1×2."""
    target = tmp_path / "spatial.zip"
    target.write_bytes(pack(bundle("ae", spatial=True)))
    return target


def test_every_call_keeps_the_shape(path: Path) -> None:
    images = np.random.default_rng(0).random((5, 1, 2, 2), np.float32)
    with vae.load(path, device="cpu") as model:
        assert (model.spec.latent_shape, model.spec.latent_dim) == ((1, 2), 2)
        z = model.encode(images)
        assert z.shape == model.sample_latents(5, seed=0).shape == (5, 1, 2)
        again = model.decode(z)
        assert np.array_equal(again, model.reconstruct(images))
        assert np.array_equal(again, model.decode(z.reshape(5, 2)))
        assert np.array_equal(again[:1], model.decode(z[0]))
        sampled = model.decode(model.sample_latents(3, seed=1))
        assert np.array_equal(model.sample(3, seed=1), sampled)
        assert model.traverse(1, 4).shape == (4, 1, 2, 2)
        path_between = model.interpolate(z[0], z[1], 3)
        assert np.array_equal(path_between[[0, 2]], again[:2])
        assert np.array_equal(path_between, model.interpolate(images[0], images[1], 3))
        np.testing.assert_allclose(model.score(images).mse, ((again - images) ** 2).mean((1, 2, 3)))
        with pytest.raises(InputError, match=r"z: shape \[5, 2, 1\], expected \[N, 1, 2\]"):
            model.decode(z.reshape(5, 2, 1))


@pytest.mark.parametrize("kind", [".npy", ".npz", ".csv"])
def test_latents_go_through_files(run: Run, path: Path, kind: str, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, np.random.default_rng(0).random((5, 1, 2, 2), np.float32))
    latents = f"latents{kind}"
    assert run("encode", str(images), "-b", str(path), "-o", latents).code == 0
    assert run("decode", latents, "-b", str(path), "-o", "again.npy").code == 0
    assert run("reconstruct", str(images), "-b", str(path), "-o", "direct.npy").code == 0
    direct = np.load("direct.npy")
    np.testing.assert_allclose(np.load("again.npy"), direct, atol=1e-6)
    if kind == ".npy":
        assert np.load(latents).shape == (5, 1, 2)
