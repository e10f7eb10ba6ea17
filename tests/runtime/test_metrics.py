"""ELBO, IWAE and active units, compared with their definitions in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vae_runtime as vae
from vae_runtime import metrics
from vae_runtime.errors import UsageError
from vae_runtime.inference import batching
from vae_runtime.metrics import negative_log_likelihood

pytestmark = pytest.mark.torch_free


def test_iwae_and_elbo_follow_their_definitions(vae_path: Path) -> None:
    samples, seed = 5, 3
    with vae.load(vae_path) as model:
        images = model.sample(4, seed=0)
        found = model.evaluate(images, samples=samples, binarise="threshold", seed=seed)
        x = (images >= 0.5).astype(np.float32)
        mu, log_var = model.posterior(x)
        assert log_var is not None
        log_w = np.zeros((samples, 4))
        nll = np.zeros((samples, 4))
        for k in range(samples):
            z = metrics.sample_posterior(mu, log_var, seed, k * 4)
            p = np.clip(model.decode(z).astype(np.float64), 1e-7, 1 - 1e-7)
            nll[k] = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3))
            z64, m, s = z.astype(np.float64), mu.astype(np.float64), np.exp(log_var / 2.0)
            log_p = -0.5 * (z64**2 + np.log(2 * np.pi)).sum(axis=1)
            log_q = -0.5 * (((z64 - m) / s) ** 2 + np.log(2 * np.pi) + log_var).sum(axis=1)
            log_w[k] = -nll[k] + log_p - log_q
        kl = metrics.kl_to_standard_normal(mu, log_var)
        iwae = -(np.log(np.exp(log_w - log_w.max(0)).mean(0)) + log_w.max(0)).mean()
    assert found.iwae == pytest.approx(iwae, rel=1e-6)
    assert found.negative_elbo == pytest.approx((nll.mean(0) + kl).mean(), rel=1e-6)
    assert found.kl == pytest.approx(kl.mean(), rel=1e-9)


def test_more_samples_tighten_the_bound(vae_path: Path) -> None:
    with vae.load(vae_path) as model:
        images = model.sample(64, seed=0)
        found = [model.evaluate(images, samples=k).iwae for k in (1, 8, 64)]
        assert found[0] > found[1] > found[2]  # type: ignore[operator]


@pytest.mark.parametrize("binarise", ["sample", "threshold", "none"])
def test_the_batch_size_does_not_change_the_metrics(
    cvae: vae.Autoencoder, binarise: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(20) % 10
    images = cvae.sample(20, labels, seed=0)
    whole = cvae.evaluate(images, labels, samples=3, binarise=binarise)
    for module in (metrics, batching):
        monkeypatch.setattr(module, "BATCH_SIZE", 7)
    batched = cvae.evaluate(images, labels, samples=3, binarise=binarise)
    for key, value in whole.to_json().items():
        exact = isinstance(value, (str, bool))
        assert getattr(batched, key) == (value if exact else pytest.approx(value, rel=1e-9)), key


def test_labels_lower_the_error_of_a_conditional_model(cvae: vae.Autoencoder) -> None:
    labels = np.repeat(np.arange(10), 8)
    images = cvae.sample(80, labels, seed=0)
    given, none = (cvae.evaluate(images, x, samples=4) for x in (labels, None))
    assert given.labels
    assert not none.labels
    assert given.mse < none.mse


def test_an_autoencoder_has_only_a_squared_error(ae_path: Path) -> None:
    with vae.load(ae_path) as model:
        images = model.sample(10, seed=0, dtype="uint8")
        found = model.evaluate(images)
        again = model.reconstruct(images)
    error = (again - images.astype(np.float32) / np.float32(255)).astype(np.float64)
    assert found.mse == pytest.approx((error**2).mean())
    assert (found.kl, found.negative_elbo, found.iwae, found.active_units) == (None,) * 4


def test_pixels_are_binarised_with_their_probability(rng: np.random.Generator) -> None:
    grey = np.full((4000, 1, 2, 3), 0.3, np.float32)
    binary = metrics._binarised(grey, "sample", 0, 0)
    assert set(np.unique(binary)) == {0, 1}
    assert np.abs(binary.mean(axis=0) - 0.3).max() < 0.04
    assert np.array_equal(binary[100:110], metrics._binarised(grey[:10], "sample", 0, 100))


def test_different_seeds_give_different_pixels() -> None:
    grey = np.full((2, 1, 8, 8), 0.5, np.float32)
    seeds = (0, 1, 2**63, 2**63 + 1, 2**64 - 1)
    found = {metrics._binarised(grey, "sample", seed, 0).tobytes() for seed in seeds}
    assert len(found) == len(seeds)


def test_active_units_are_the_dimensions_that_vary(vae_path: Path) -> None:
    with vae.load(vae_path) as model:
        images = model.sample(200, seed=0)
        mu = model.encode(images).astype(np.float64)
        found = model.evaluate(images, samples=1)
        assert found.active_units == (mu.var(axis=0) > 0.01).sum()
        assert model.evaluate(images[:1], samples=1).active_units == 0


def test_wrong_arguments_are_refused(cvae: vae.Autoencoder, ae_path: Path) -> None:
    images = cvae.sample(2, seed=0)
    with pytest.raises(
        UsageError, match=r"^binarise is 'both', expected sample or threshold or none"
    ):
        cvae.evaluate(images, binarise="both")
    with pytest.raises(UsageError, match=r"^0 images, expected 1 or more$"):
        cvae.evaluate(images[:0])
    for call, message in (
        (lambda: cvae.evaluate(images, seed=-1), "seed is -1, expected a whole number from 0"),
        (lambda: cvae.score(images, samples=1.5), "samples is 1.5, expected a whole number, 1 or"),
        (lambda: cvae.score(images, start=-1), "start is -1, expected a whole number, 0 or more"),
        (
            lambda: cvae.score(images, start=np.arange(3)),
            r"start is int64\[3\], expected one whole",
        ),
        (lambda: cvae.sample_latents(2, start=np.zeros(2)), r"start is float64\[2\], expected one"),
        (
            lambda: next(cvae.stream(4, batch_size=2.5)),
            "batch_size is 2.5, expected a whole number",
        ),
        (lambda: cvae.traverse(1.5), "dim is 1.5, expected a whole number, 0 to 5"),
        (lambda: cvae.traverse(1, span="a"), "span is 'a', expected a finite number$"),
        (lambda: cvae.interpolate(*images, steps=2.5), "steps is 2.5, expected a whole number, 2"),
        (lambda: cvae.sample(1, temperature="1"), "temperature is '1', expected a finite number"),
        (lambda: vae.load(None), "bundle is None, expected a name, or the path of one"),
        (
            lambda: vae.save("x.png", images),
            r"path is a ndarray, expected text: save\(images, path",
        ),
    ):
        with pytest.raises(UsageError, match=f"^{message}"):
            call()
    with (
        vae.load(ae_path) as model,
        pytest.raises(UsageError, match=r"expected none for gaussian$"),
    ):
        model.evaluate(images, binarise="sample")


@pytest.mark.parametrize("size", [(28, 28), (37, 53), (1, 6)])
def test_the_fast_likelihood_of_binary_pixels_follows_the_definition(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    p = (1 / (1 + np.exp(-rng.normal(0, 8, (5, 1, *size))))).astype(np.float32)
    p[0], p[1] = 0, 1  # probabilities of 0 and 1, some of them wrong
    x = (rng.random(p.shape) < 0.5).astype(np.float32)
    exact = np.clip(p.astype(np.float64), 1e-7, 1 - np.float32(1e-7))
    expected = -np.where(x > 0, np.log(exact), np.log1p(-exact)).sum(axis=(1, 2, 3))
    found = negative_log_likelihood(p, x, "bernoulli", zeros=1 - x)
    assert np.allclose(found, expected, rtol=1e-5)
    assert np.allclose(found, negative_log_likelihood(p, x, "bernoulli"), rtol=1e-5)
