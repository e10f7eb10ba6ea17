"""Checkpoints and exports of scikit-learn's digits, made once for all tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]


def run_cli(*arguments: object) -> Result:
    """Run `vae-export` in this process; the result holds the exception, if any."""
    from vae_export.cli import cli

    return CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)


@pytest.fixture(scope="session")
def checkpoint_of() -> Callable[[str], Any]:
    """Return a function: `cvae-conv` → a checkpoint for 8×8 digits, trained for one epoch."""

    @cache
    def make(name: str) -> Any:
        from vae_models import preset
        from vae_runtime.datasets import load_dataset
        from vae_train.config import recipe
        from vae_train.run import train_model

        family, _, backbone = name.partition("-")
        data = load_dataset("digits")
        hidden = (32,) if backbone == "conv" else (64, 128)
        config = preset("default", family, data.image_shape, 10, backbone=backbone, hidden=hidden)  # type: ignore[arg-type]
        how = recipe("default", family, config.pixels, epochs=1)
        return train_model(data, config, how, components=1, device="cpu")

    return make


@pytest.fixture(scope="session")
def saved(
    checkpoint_of: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Return a function: `cvae-conv` → the file of that checkpoint."""

    @cache
    def write(name: str) -> Path:
        from vae_train.checkpoint import save_checkpoint

        path = tmp_path_factory.mktemp("checkpoints") / f"{name}.pt"
        save_checkpoint(checkpoint_of(name), path)
        return path

    return write


@pytest.fixture(scope="session")
def exported_of(checkpoint_of: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a function: `vae-mlp` → its export in memory, with every variant that fits."""

    @cache
    def make(name: str) -> Any:
        from vae_export import export_checkpoint

        variants = ("fp16", "uint8") + (("int8",) if name.endswith("mlp") else ())
        return export_checkpoint(checkpoint_of(name), None, variants=variants)

    return make
