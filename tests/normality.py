"""Bundles that say what is normal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import vae_runtime as vae
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.manifest import NAME

_FILE = "normality.npz"


def with_normality(source: Path, target: Path, n: int = 400) -> Path:
    """Write a copy of a bundle that takes its own samples for normal images."""
    with vae.load(source, device="cpu") as model:
        rng = np.random.default_rng(0)
        images = model.sample(n, seed=0)
        images = (images + rng.normal(0, 0.03, images.shape)).clip(0, 1).astype(np.float32)
        raw = model.learn_normality(images).to_bytes()
    files = read_files(source)
    spec = {"file": _FILE, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    manifest = json.loads(files[NAME]) | {"normality": spec}
    target.write_bytes(pack(with_checksums(files | {_FILE: raw}, manifest)))
    return target
