"""The npm package under Node with each of its runtimes: torch's pixels, Python's samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vae_runtime.verification import TOLERANCE

from .conftest import Open, skip_if_missing
from .node import NODE, WEB, node_app

pytestmark = pytest.mark.slow  # installs packages, once


@pytest.fixture(scope="module", params=[NODE, WEB])
def app(request: pytest.FixtureRequest) -> Path:
    folder = skip_if_missing(node_app, request.param)
    assert isinstance(folder, Path)
    assert (folder.parent / "node_modules" / NODE).is_dir() == (request.param == NODE)
    return folder


@pytest.mark.parametrize("name", ["cvae_mlp", "cvae_conv", "vae_mlp", "ae_conv"])
def test_node_gives_the_pixels_of_torch_and_the_latents_of_python(
    app: Path, open_vectors: Open, name: str
) -> None:
    vectors = open_vectors(name)
    seed, label = 2**64 - 3, "3" if vectors.spec.classes else ""
    sampled = vectors.work / "sampled.f32"
    command = ["node", app / "drive.mjs", vectors.graph, *vectors.files]
    error, _ = vectors.drive([*command, str(seed), label, sampled])
    assert error <= TOLERANCE
    expected = vectors.spec.prior.sample(500, 3 if label else None, seed)
    found = np.fromfile(sampled, np.float32).reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
