"""The same seed gives the same bits, for any batch size, threads and concurrent calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime.inference import batching

pytestmark = pytest.mark.torch_free

N = 300
SIZES = (1, 2, 3, 5, 7, 16, 33, 64, 100, 255, 256, 299, 300)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_batches_and_threads_do_not_change_a_bit(
    any_bundle: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vae.load(any_bundle, device="cpu") as model:
        label = np.arange(N) % 10 if model.spec.classes else None
        images = model.sample(N, label, seed=3)
        latents = model.encode(images, label)
    with vae.load(any_bundle, device="cpu", threads=threads) as model:
        for size in SIZES:
            monkeypatch.setattr(batching, "BATCH_SIZE", size)
            again = np.concatenate(list(model.stream(N, label, seed=3, batch_size=size)))
            assert np.array_equal(again, images), size
            assert np.array_equal(model.encode(images, label), latents), size


def test_any_part_of_a_seed_can_be_sampled_alone(cvae: vae.Autoencoder) -> None:
    images = cvae.sample(40, label=4, seed=11)
    for start, n in ((0, 40), (1, 1), (17, 9), (39, 1)):
        part = np.concatenate(list(cvae.stream(n, 4, 11, start=start, batch_size=4)))
        assert np.array_equal(part, images[start : start + n])
    far = next(cvae.stream(1, 4, 11, start=10**12))
    assert np.array_equal(far, next(cvae.stream(1, 4, 11, start=10**12)))


def test_an_endless_stream_yields_the_images_of_sample(cvae: vae.Autoencoder) -> None:
    stream = cvae.stream(label="2", seed=0, batch_size=8)
    found = np.concatenate([next(stream) for _ in range(3)])
    assert np.array_equal(found, cvae.sample(24, label=2, seed=0))


def test_stream_checks_its_arguments_when_it_is_called(cvae: vae.Autoencoder) -> None:
    for wrong in (
        {"n": -1}, {"seed": -1}, {"label": "ten"}, {"batch_size": 0}, {"start": -1},
        {"dtype": "int8"}, {"prior": "best"}, {"temperature": -1}, {"truncation": 0},
        {"n": 3, "label": [1, 2]}, {"label": [1, 2]},
    ):  # fmt: skip
        with pytest.raises(vae.VaeError):
            cvae.stream(**wrong)  # type: ignore[arg-type]


def test_a_stream_uses_constant_memory(cvae: vae.Autoencoder) -> None:
    import tracemalloc

    tracemalloc.start()
    total = sum(part.mean() for part in cvae.stream(20_000, label=1, seed=0, dtype="uint8"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0
    assert peak < 2_000_000, "20,000 latents and images need far more than two megabytes"


def test_another_seed_gives_different_images(cvae: vae.Autoencoder) -> None:
    assert not np.array_equal(cvae.sample(2, 3, seed=0), cvae.sample(2, 3, seed=1))
    assert not np.array_equal(cvae.sample(2, 3), cvae.sample(2, 3))


def test_eight_threads_get_the_images_of_one(any_bundle: Path) -> None:
    with vae.load(any_bundle, device="cpu") as alone:
        expected = [alone.sample(20, seed=seed) for seed in range(40)]
    with vae.load(any_bundle, device="cpu") as shared, ThreadPoolExecutor(8) as pool:
        # No graph is loaded yet, so the threads also race to create the sessions.
        found = list(pool.map(lambda seed: shared.sample(20, seed=seed), range(40)))
        latents = list(pool.map(shared.encode, expected))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    with vae.load(any_bundle, device="cpu") as alone:
        assert all(
            np.array_equal(alone.encode(x), z) for x, z in zip(expected, latents, strict=True)
        )
