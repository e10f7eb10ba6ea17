"""The models to time. They are untrained: the values of the weights do not affect the time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vae_runtime as vae
from vae_export import export_checkpoint
from vae_models import ModelConfig, build, preset
from vae_runtime.prior import Prior
from vae_train import Checkpoint
from vae_train.config import recipe

CLASSES = 10


@dataclass(eq=False)
class BenchmarkModel:
    """An untrained model as an exported bundle and as a torch module."""

    config: ModelConfig
    path: str
    torch: Any

    @cache  # noqa: B019 - these models live as long as the process
    def load(self, variant: str = "fp32", threads: int = 1) -> vae.Autoencoder:
        """Load the bundle through the public API."""
        return vae.load(self.path, device="cpu", threads=threads, variant=variant)

    def latents(self, n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the first n of a fixed sequence of latents from N(0, I), f32[n, D]."""
        z = np.random.default_rng(0).standard_normal((n, self.config.latent_dim))
        return z.astype(np.float32)


def compiled(run: Callable[..., Any], *inputs: torch.Tensor) -> Callable[..., Any] | None:
    """Compile a function with torch.compile; return None if that fails, as without a compiler."""
    found = torch.compile(run)
    try:
        found(*inputs)
    except Exception as error:  # noqa: BLE001 - the compiler fails in many ways
        print(f"torch.compile: skipped: {str(error).splitlines()[0]}")
        return None
    return found


@cache
def cvae(name: str, variants: tuple[str, ...] = ()) -> BenchmarkModel:
    """Make a CVAE of ten classes: `reference`, `conv` or `conv64` (64×64 RGB)."""
    shape = (3, 64, 64) if name == "conv64" else (1, 28, 28)
    config = preset("reference" if name == "reference" else "default", "cvae", shape, CLASSES)
    return export_untrained(config, variants)


def export_untrained(config: ModelConfig, variants: tuple[str, ...] = ()) -> BenchmarkModel:
    """Build a model and export it to a temporary zip."""
    torch.manual_seed(0)
    module = build(config).eval()
    examples = torch.randint(0, 256, (8, *config.image_shape), dtype=torch.uint8)
    labels = torch.arange(8) % max(config.classes, 1) if config.classes else None
    checkpoint = Checkpoint(
        config,
        module.state_dict(),
        recipe("default", config.family, config.pixels),
        Prior.normal(config.latent_dim),
        examples,
        labels,
        tuple(str(k) for k in range(config.classes)),
        {"parameters": sum(p.numel() for p in module.parameters()), "epochs": 0, "metrics": {}},
    )
    path = Path(tempfile.mkdtemp(prefix="vae-performance-")) / "bundle.zip"
    export_checkpoint(checkpoint, path, variants=variants)
    return BenchmarkModel(config, str(path), module)
