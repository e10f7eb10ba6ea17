"""Close a model, and use it after a fork."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.bundle.reader import open_bundle, open_files
from vae_runtime.errors import IntegrityError, StateError
from vae_runtime.inference.session import onnxruntime

from .conftest import DATA, unpack

pytestmark = pytest.mark.torch_free


def test_a_closed_model_is_refused(cvae_path: Path) -> None:
    model = vae.load(cvae_path)
    model.sample(1, seed=0)
    model.close()
    model.close()
    with pytest.raises(StateError, match=r"^this model was closed\. Load it again\.$"):
        model.sample(1, seed=0)


def test_a_closed_graph_is_refused(cvae_path: Path) -> None:
    bundle = open_bundle(cvae_path)
    spec = bundle.manifest.graph("decoder")
    assert spec is not None
    with vae.Decoder(bundle.read(spec.file)) as decoder:
        z = np.zeros(decoder.spec.latent_dim, np.float32)
        decoder(z)
    with pytest.raises(StateError, match="was closed"):
        decoder(z)


def test_closing_frees_the_session(cvae_path: Path) -> None:
    model = vae.load(cvae_path)
    model.sample(1, seed=0)
    graph = model.decoder()
    session = weakref.ref(graph.session.raw)
    assert session() is not None
    model.close()
    gc.collect()
    assert session() is None


FORK = """
import os, sys
import numpy as np
import vae_runtime as vae
from vae_runtime.bundle.reader import open_bundle
path = sys.argv[1]
model = vae.load(path, device="cpu")
bundle = open_bundle(path)
decoder = vae.Decoder(bundle.read(bundle.manifest.graph("decoder").file))
expected = model.sample(300, seed=0)
z = model.sample_latents(3, seed=0)
children = []
for case in ("use", "leave", "close", "reload"):
    child = os.fork()
    if child == 0:
        if case == "use":
            assert np.array_equal(model.sample(300, seed=0), expected)
            assert np.array_equal(decoder(z), expected[:3])
        if case == "close":
            model.close()
        if case == "reload":
            with vae.load(path, device="cpu") as fresh:
                assert np.array_equal(fresh.sample(300, seed=0), expected)
        del model, decoder
        sys.exit(0)  # an ordinary exit destroys all remaining objects
    _, status = os.waitpid(child, 0)
    children.append(os.waitstatus_to_exitcode(status))
print(children, np.array_equal(model.sample(300, seed=0), expected))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_loads_the_model_again(cvae_path: Path) -> None:
    command = [sys.executable, "-c", FORK, str(cvae_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0] True\n", "")


def test_a_session_of_the_caller_cannot_be_loaded_again(cvae_path: Path) -> None:
    bundle = open_bundle(cvae_path)
    spec = bundle.manifest.graph("decoder")
    assert spec is not None
    raw = onnxruntime().InferenceSession(bundle.read(spec.file), providers=["CPUExecutionProvider"])
    decoder = vae.Decoder(raw)
    with pytest.raises(StateError, match="made from an onnxruntime session cannot be pickled"):
        pickle.dumps(decoder)
    decoder._session.inherited = True  # as after a fork
    with pytest.raises(StateError, match=r"session and cannot be loaded again\. Make it from"):
        decoder.sample(1)


def test_a_model_is_pickled_by_its_source_and_checksum(cvae_path: Path, tmp_path: Path) -> None:
    unpack(cvae_path, tmp_path / "cvae")
    with vae.load(tmp_path / "cvae", device="cpu", threads=2) as model:
        raw = pickle.dumps(model)
        assert len(raw) < 1000, "the files are not in the pickle"
        with pickle.loads(raw) as again:
            expected = model.sample(3, 1, seed=0)
            assert np.array_equal(again.sample(3, 1, seed=0), expected)
            assert again.decoder().session.threads == 2
        decoder = pickle.loads(pickle.dumps(model.decoder(conditional=True)))
        assert np.array_equal(decoder.sample(3, 1, seed=0), expected)
        encoder = copy.deepcopy(model.encoder())
        assert np.array_equal(encoder(expected), model.encode(expected))
    shutil.rmtree(tmp_path / "cvae")
    unpack(DATA / "vae_conv.zip", tmp_path / "cvae")
    with pytest.raises(IntegrityError, match=r"another bundle than the pickled one\. Copy that"):
        pickle.loads(raw)


def test_a_graph_is_pickled_by_its_path_or_its_bytes(cvae_path: Path, tmp_path: Path) -> None:
    bundle = open_bundle(cvae_path)
    spec = bundle.manifest.graph("conditional_decoder")
    assert spec is not None
    raw, path = bundle.read(spec.file), tmp_path / "d.onnx"
    path.write_bytes(raw)
    from_path, from_bytes = vae.Decoder(path), vae.Decoder(raw)
    expected = from_path.sample(2, label=3, seed=0)
    for decoder in (from_path, from_bytes):
        again = pickle.loads(pickle.dumps(decoder))
        assert np.array_equal(again.sample(2, label=3, seed=0), expected)
    kept = pickle.dumps(from_path)
    path.write_bytes(raw + b"x")
    with pytest.raises(IntegrityError, match=r"replaced since it was loaded\. Load it again\.$"):
        pickle.loads(kept)


def test_a_bundle_in_memory_cannot_be_pickled(cvae_path: Path) -> None:
    bundle = open_files(open_bundle(cvae_path).read_all(), "the bundle")
    with pytest.raises(StateError, match="opened from memory cannot be pickled"):
        pickle.dumps(vae.Autoencoder(bundle))


@pytest.mark.parametrize("replaced", [True, False])
def test_a_folder_that_was_replaced_is_not_called_damaged(
    cvae_path: Path, tmp_path: Path, replaced: bool
) -> None:
    folder = tmp_path / "cvae"
    unpack(cvae_path, folder)
    with vae.load(folder) as model:
        model.sample(1, seed=0)
        shutil.rmtree(folder)
        what = "it has been removed"
        if replaced:
            unpack(DATA / "cvae_mlp.zip", folder)
            what = "another bundle has taken its place"
        with pytest.raises(IntegrityError) as caught:
            model.sample(1, label=3, seed=0)
        assert str(caught.value) == f"{folder}: {what} since it was opened. Load it again."
        model.sample(1, seed=0)  # what was loaded still works


def test_a_preloaded_model_needs_its_folder_no_more(cvae_path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cvae"
    unpack(cvae_path, folder)
    with vae.load(folder, preload=True) as model:
        shutil.rmtree(folder)
        images = model.sample(2, label=3, seed=0, dtype="uint8")
        assert model.reconstruct(images, 3).shape == images.shape
        assert model.sample(1, seed=0).shape == (1, *images.shape[1:])
