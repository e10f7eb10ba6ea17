"""The way from photographs to decisions, as docs/uses.md describes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.uses.__main__ import key, page
from tests.uses.anomalies import Row
from tests.uses.compression import Rate
from tests.uses.denoising import Denoised
from tests.uses.features import Worth
from tests.uses.textures import DEFECTS, write_photographs
from vae_export.cli import cli as export
from vae_runtime.cli import cli as run
from vae_train.cli import cli as train


@pytest.mark.slow
def test_three_commands_lead_from_photographs_to_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_photographs(Path("cloth"), 200, 10)
    runner = CliRunner()
    small = ["--backbone", "mlp", "--epochs", "40", "--latent-dim", "8", "--no-report"]
    for cli, args in (
        (train, ["vae", "--data", "cloth/train/good", "--size", "32x32", "-o", "c.pt", *small]),
        (export, ["--ckpt", "c.pt", "--zip", "--no-sampler"]),
    ):
        done = runner.invoke(cli, args)
        assert done.exit_code == 0, done.output
    done = runner.invoke(run, ["detect", "cloth", "-b", "c.zip", "--resize", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["n"] == 10 * (1 + len(DEFECTS))
    assert found["false_alarms"] == pytest.approx(1 / 21)
    assert found["quality"]["auroc"] > 0.8
    assert found["quality"]["pixel_auroc"] > 0.85


def test_the_page_has_the_means_of_each_data_set() -> None:
    rows = {
        "anomalies": [Row("mnist", "3", 0, 0.9, 0.8, 0.04), Row("mnist", "4", 0, 1.0, 0.9, 0.06)],
        "denoising": [
            Denoised("mnist", "σ = .1", "median", seed, 20.0 + seed, 0.5) for seed in (0, 1)
        ],
        "features": [
            Worth("mnist", "latents of a VAE", 0, 16, 0.9, 0.96),
            Worth("mnist", "pixels", 0, 784, 0.91, 0.94),
            Worth("mnist", "latents of a VAE", 1, 16, 0.92, 0.98),
        ],
        "compression": [
            Rate("mnist", "b", "vae", 0.05, 9.1, 22.7, 0.9),
            Rate("mnist", "b", "png", 100, 269, 99, 1),
        ],
    }  # fmt: skip
    text = page(rows, "2026-01-01")
    assert "| mnist | 2 | 1 | 0.950 | 0.850 | 5.0% | – | – |" in text
    assert "| median | 20.5 / 0.500 |" in text
    assert "| latents of a VAE | 16 | 2 | 0.910 | 0.970 |" in text
    assert "| pixels | 784 | – | 0.910 | 0.940 |" in text
    assert "| vae | 0.05 | 9.1 | 22.7 | 0.900 |" in text
    assert "| png | – | 269.0 | ∞ | 1 |" in text
    assert len({key(row) for own in rows.values() for row in own}) == 9
