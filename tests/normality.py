"""Bundles that say what is normal."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vae_runtime as vae
from tests.security.rechecksum import read_files, with_checksums
from vae_runtime.bundle.archive import pack
from vae_runtime.bundle.manifest import NAME

_FILE = "normality.npz"


def with_normality(source: Path, target: Path, images: NDArray[Any] | None = None) -> Path:
    """Write a copy of a bundle that takes these images, or else its own samples, for normal."""
    with vae.load(source, device="cpu") as model:
        if images is None:
            images = model.sample(400, seed=0)
            noise = np.random.default_rng(0).normal(0, 0.03, images.shape)
            images = (images + noise).clip(0, 1).astype(np.float32)
        raw = model.learn_normality(images).to_bytes()
    files = read_files(source)
    spec = {"file": _FILE, "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    manifest = json.loads(files[NAME]) | {"normality": spec}
    target.write_bytes(pack(with_checksums(files | {_FILE: raw}, manifest)))
    return target
