"""The computations for the quality table, on untrained models and made-up records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.quality import table
from tests.quality.classifier import Classifier
from tests.quality.judge import Judge
from tests.quality.rows import ROWS, Bench, likelihood, mse, pca_error, priors, samples
from vae_models import PRESETS, build, preset
from vae_runtime.datasets import Dataset
from vae_runtime.prior import Prior
from vae_train import Checkpoint, TrainConfig


def digits(n: int) -> Dataset:
    """Noisy images with a bright left half for odd labels, a bright right half for even ones."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (n, 1, 28, 28))
    labels = np.arange(n) % 10
    for i, label in enumerate(labels):
        images[i, :, :, slice(0, 14) if label % 2 else slice(14, 28)] += 150
    return Dataset("made", images.astype(np.uint8), labels.astype(np.int64), tuple("0123456789"))


def untrained(family: Any) -> Checkpoint:
    torch.manual_seed(0)
    config = preset("default", family, (1, 28, 28), 10, backbone="mlp", hidden=(8,), latent_dim=3)
    weights = build(config).state_dict()
    examples = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    return Checkpoint(config, weights, TrainConfig(), Prior.normal(3), examples)


@pytest.fixture(scope="module")
def bench() -> Bench:
    torch.manual_seed(0)
    data = digits(60)
    return Bench(data, data, Judge.of(Classifier().eval(), data, data), 5, 50, 4)


def test_the_error_of_pca_is_the_variance_of_the_omitted_axes() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    spread = np.array([5, 3, 1, 0.5, 0.2, 0.1])
    train = (rng.standard_normal((20_000, 6)) * spread @ axes.T + 7).astype(np.float32)
    test = (rng.standard_normal((20_000, 6)) * spread @ axes.T + 7).astype(np.float32)
    for dim in (1, 2, 5):
        assert pca_error(train, test, dim) == pytest.approx(
            np.square(spread[dim:]).sum() / 6, rel=0.05
        )
    assert pca_error(train, test, 6) == pytest.approx(0, abs=1e-9)


def test_a_likelihood_is_measured_under_both_priors(bench: Bench) -> None:
    checkpoint = untrained("vae")
    found = likelihood(checkpoint, bench)
    assert found["nll"] == found["fitted_nll"]  # its prior is N(0, I)
    far = Prior("gaussian", 3, *(None, None), np.ones((1, 1)), np.full((1, 1, 3), 9.0), np.eye(3)[
        np.tril_indices(3)].reshape(1, 1, 6))  # fmt: skip
    with_far_prior = Checkpoint(
        checkpoint.model, checkpoint.state, checkpoint.train, far, checkpoint.examples
    )
    again = likelihood(with_far_prior, bench)
    assert again["nll"] == found["nll"]
    assert again["fitted_nll"] > found["nll"] + 1


def test_the_error_of_an_ae_is_a_mean_over_pixels(bench: Bench) -> None:
    checkpoint = untrained("ae")

    class ConstantDecoder(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.zeros(len(z), 1, 28, 28)

    found = mse(checkpoint, bench)
    constant: Any = checkpoint.build()
    constant.decoder = ConstantDecoder()  # 0 before the sigmoid: 0.5 everywhere
    replaced = Checkpoint(
        checkpoint.model, checkpoint.state, checkpoint.train, checkpoint.prior, checkpoint.examples
    )
    object.__setattr__(replaced, "build", lambda: constant)
    expected = np.square(bench.test.images / 255 - 0.5).mean()
    assert mse(replaced, bench)["mse"] == pytest.approx(expected, rel=1e-5)
    assert found["mse"] != pytest.approx(expected, rel=1e-5)
    assert 0 < found["pca"] < expected


def test_samples_and_priors_are_judged(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, list[int] | None]] = []
    samples_seen: list[Any] = []

    def measure(self: Judge, images: Any, labels: Any = None) -> dict[str, float]:
        seen.append((len(images), None if labels is None else np.bincount(labels).tolist()))
        samples_seen.append(images.ravel())
        return {"ratio": float(len(seen))}

    monkeypatch.setattr(Judge, "measure", measure)
    found = samples(untrained("cvae"), bench)
    assert found == {"ratio": 3.0, "first_ratio": 1.0, "again_ratio": 6.0}  # the mean of 1 to 5
    assert priors(untrained("ae"), bench) == {"fitted_ratio": 7.0, "normal_ratio": 8.0}
    assert seen == [*[(10_000, [1000] * 10)] * 5, (60, [6] * 10), *[(10_000, None)] * 2]
    assert len({tuple(image[:8]) for image in samples_seen[:5]}) == 5


def test_the_judge_rates_real_digits_as_perfect(bench: Bench) -> None:
    real = bench.test.images.astype(np.float32) / 255
    found = bench.judge.measure(real, bench.test.labels)
    assert found["frechet"] == pytest.approx(0, abs=1e-3)
    assert (found["precision"], found["recall"]) == (1, 1)
    assert found["fidelity"] == pytest.approx(bench.judge.accuracy, abs=1e-4)
    assert bench.judge.measure(1 - real)["frechet"] > found["frechet"]


def record(row: str, seed: int, **found: float) -> dict[str, Any]:
    return {
        "row": row, "preset": "default", "seed": seed, "date": "2026-01-02", "parameters": 1234,
        "train": {"epochs": 3}, "seconds": 90, "found": found,
    }  # fmt: skip


def test_the_table_shows_met_missed_and_unmeasured_targets() -> None:
    text = table.markdown(
        [
            record("ae-8", 0, mse=0.0124, pca=0.0375, fitted_ratio=11.0),
            record("cvae", 1, fidelity=0.998, precision=0.9, recall=0.7, ratio=2.5),
        ],
        (0, 1),
    )
    lines = text.splitlines()
    assert "| AE, 8 dimensions | test MSE | ≤ 0.0125 | 0.0124 | not run |" in lines
    ours = "| AE, 8 dimensions | Fréchet distance / floor, fitted prior | ≤ 10 | 11 ✗ | not run |"
    assert ours in lines
    assert "| CVAE | label fidelity | ≥ 0.997 | not run | 0.998 |" in lines
    assert "| CVAE | precision | ≥ 0.92 | not run | 0.9 ✗ |" in lines
    assert "| CVAE | recall | ≥ 0.7 | not run | 0.7 |" in lines
    assert "| ae-8 | 0 | 2026-01-02 | 1,234 | 3 | 2 min | PCA 0.0375 |" in lines
    assert "| VAE, 50 dimensions | NLL, N(0, I), nats | ≤ 84 | not run | not run |" in lines


def test_every_row_has_a_buildable_model_figures_and_measures() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    for row in ROWS:
        for name in PRESETS[:1]:
            build(preset(name, row.arguments[0], (1, 28, 28), 10))  # type: ignore[arg-type]
        assert row.figures
        assert row.measures


def test_a_row_with_a_checkpoint_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(
        table.subprocess, "run", lambda command, check: commands.append(command) if check else None
    )
    out = tmp_path / "ae-8-default-0.pt"
    table.train_row(ROWS[0], 4, "default", "folder", 1, out)
    assert commands[0][1:6] == ["ae", "--latent-dim", "8", "--preset", "default"]
    assert commands[0][8:10] == ["--seed", "4"]
    out.write_bytes(b"")
    table.train_row(ROWS[0], 4, "default", "folder", 1, out)
    assert len(commands) == 1


def test_both_files_are_written_from_all_records(tmp_path: Path) -> None:
    import json

    for seed in (0, 7):
        (tmp_path / f"ae-8-default-{seed}.json").write_text(
            json.dumps(record("ae-8", seed, mse=0.01, pca=0.0375, fitted_ratio=5.0))
        )
    out = tmp_path / "docs"
    out.mkdir()
    table.write(tmp_path, out, [0])
    assert len(json.loads((out / "quality-results.json").read_text())) == 2
    assert "| seed 0 | seed 7 |" in (out / "quality-results.md").read_text()
