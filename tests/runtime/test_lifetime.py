"""Close a model, and use it after a fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.errors import StateError

pytestmark = pytest.mark.torch_free


def test_a_closed_model_is_refused(cvae_path: Path) -> None:
    model = vae.load(cvae_path)
    model.sample(1, seed=0)
    model.close()
    model.close()
    with pytest.raises(StateError, match=r"^this model was closed\. Load it again\.$"):
        model.sample(1, seed=0)


def test_a_closed_graph_is_refused(cvae_path: Path) -> None:
    from vae_runtime.bundle.reader import open_bundle

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
import vae_runtime as vae
from vae_runtime.errors import StateError
model = vae.load(sys.argv[1], device="cpu")
model.sample(300, seed=0)
children = []
for case in ("use", "leave", "reload"):
    child = os.fork()
    if child == 0:
        if case == "use":
            try:
                model.sample(1, seed=0)
            except StateError as error:
                sys.stderr.write(str(error))
            model.close()
        if case == "reload":
            with vae.load(sys.argv[1], device="cpu") as fresh:
                assert fresh.sample(2, seed=0).shape[0] == 2
        del model
        sys.exit(0)  # an ordinary exit destroys all remaining objects
    _, status = os.waitpid(child, 0)
    children.append(os.waitstatus_to_exitcode(status))
print(children, model.sample(2, seed=0).shape[0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_gets_a_clear_error_and_no_crash(cvae_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(cvae_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[0, 0, 0] 2\n"
    assert done.stderr == (
        "this model was loaded before fork and cannot be used in the child process. "
        "Load it in the child, or start processes with 'spawn'."
    )
