"""The models that are timed: untrained weights run as fast as trained ones."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

import vae_runtime as vae
from vae_export import export_checkpoint
from vae_models import ModelConfig, build, preset
from vae_runtime.bundle.reader import Bundle, open_bundle
from vae_runtime.prior import Prior
from vae_train import Checkpoint
from vae_train.config import recipe

CLASSES = 10


@dataclass(eq=False)
class Subject:
    """One model three ways: our runtime, torch, and the bare onnxruntime sessions."""

    config: ModelConfig
    bundle: Bundle
    path: str
    torch: Any

    @cache  # noqa: B019 - a subject lives as long as the process
    def model(self, variant: str = "fp32", threads: int = 1) -> vae.Autoencoder:
        """Through the public API."""
        return vae.load(self.path, device="cpu", threads=threads, variant=variant)

    @cache  # noqa: B019
    def session(self, role: str = "conditional_decoder") -> Any:
        """The bare session, with the options that ours has."""
        spec = self.bundle.manifest.graph(role)
        assert spec is not None
        return bare_session(self.bundle.read(spec.file))

    def latents(self, n: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """n latents of N(0, I), always the same."""
        z = np.random.default_rng(0).standard_normal((n, self.config.latent_dim))
        return z.astype(np.float32)


@cache
def subject(name: str, variants: tuple[str, ...] = ()) -> Subject:
    """`reference`, `conv`, `conv64` (64×64 RGB): each a CVAE of ten classes, untrained."""
    shape = (3, 64, 64) if name == "conv64" else (1, 28, 28)
    config = preset("reference" if name == "reference" else "default", "cvae", shape, CLASSES)
    return make(config, variants)


def make(config: ModelConfig, variants: tuple[str, ...] = ()) -> Subject:
    """A model of these measures, exported to a temporary zip."""
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
    return Subject(config, open_bundle(str(path)), str(path), module)


def bare_session(model: bytes | io.BytesIO) -> Any:
    """An onnxruntime session of one thread that does not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
