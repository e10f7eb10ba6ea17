"""Many threads, forks and runs: equal pixels, clear errors, constant memory."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

pytestmark = pytest.mark.torch_free

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
THREADS, ROUNDS = 8, 25


def jobs(model: vae.Autoencoder) -> list[Any]:
    """Calls of each kind, large enough for several batches."""
    images = np.random.default_rng(0).random((300, 1, 8, 8), np.float32)
    labels = np.arange(300) % 4
    z = model.encode(images)
    return [
        lambda: model.sample(300, label=3, seed=7),
        lambda: model.encode(images),
        lambda: model.decode(z, labels, dtype="uint8"),
        lambda: model.reconstruct(images, labels),
        lambda: model.score(images, labels, seed=1).negative_elbo,
        lambda: model.traverse(1, 11, label=2),
        lambda: model.interpolate(images[0], images[1]),
        lambda: model.sample_latents(300, label=1, seed=5),
    ]


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("name", ["cvae_mlp", "cvae_conv"])
def test_eight_threads_get_the_results_of_one(name: str) -> None:
    path = DATA / f"{name}.zip"
    with vae.load(path, device="cpu") as model:
        expected = [digest(job()) for job in jobs(model)]
    # The model is new, so the first thread that needs a graph loads it.
    with vae.load(path, device="cpu") as model, ThreadPoolExecutor(THREADS) as pool:
        work = jobs(model)
        order = [i % len(work) for i in range(THREADS * ROUNDS)]
        found = list(pool.map(lambda i: digest(work[i]()), order))
    assert found == [expected[i] for i in order]
    print(f"\n{name}: {len(order)} calls from {THREADS} threads")


FORKS = """
import os, sys
import numpy as np
import vae_runtime as vae
model = vae.load(sys.argv[1], device="cpu")
images = model.sample(4, seed=0)
latents, scores = model.encode(images), model.score(images)
ways = {
    "sample": lambda: np.array_equal(model.sample(4, seed=0), images),
    "encode": lambda: np.array_equal(model.encode(images), latents),
    "score": lambda: np.array_equal(model.score(images).mse, scores.mse),
    "close": lambda: model.close() is None,
    "leave": lambda: True,
}
found = []
for i in range(int(sys.argv[2])):
    name = list(ways)[i % len(ways)]
    child = os.fork()
    if child == 0:
        code = 0 if ways[name]() else 1
        del model, ways
        sys.exit(code)  # an ordinary exit, which destroys the sessions
    found.append((name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
assert np.array_equal(model.sample(4, seed=0), images)
print(len(found), sorted(set(found)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("forks", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_forked_children_give_the_same_results_and_do_not_crash(forks: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(DATA / "cvae_mlp.zip"), str(forks)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    ways = ("close", "encode", "leave", "sample", "score")
    assert done.stdout == f"{forks} {[(name, 0) for name in ways]}\n"
    print(f"\n{done.stdout}")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
@pytest.mark.parametrize("runs", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(runs: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.endurance", str(runs)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    print(f"\n{done.stdout}")
    found = re.search(r"at most (-?[0-9.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= 5
