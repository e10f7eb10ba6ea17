"""Make one image from a decoder with only onnxruntime and NumPy, as any app could.

`python digit.py conditional_decoder.onnx --label 3 three.pgm`. The metadata of the file has all
that is needed: shapes, class names and the prior of the latents. vae_runtime adds checks of the
file, seeds that give the same digits everywhere, batches and CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, when onnxruntime is imported
import onnxruntime


def open_graph(path: str) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """Open a session with one thread, the fastest for small graphs, and read the file's spec."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["vae_onnx"])


def decode(
    session: onnxruntime.InferenceSession, spec: dict[str, Any], z: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Decode latents f32[N, D] with labels i64[N] to images f32[N, C, H, W] in [0, 1].

    Labels are checked because onnxruntime runs some wrong ones without an error. The index after
    the last class means "no label".
    """
    inputs = {"z": np.ascontiguousarray(z, np.float32)}
    if spec["classes"]:
        if label.size and not (label.min() >= 0 and label.max() <= len(spec["classes"])):
            raise ValueError(f"label: expected 0 to {len(spec['classes'])}")
        inputs["label"] = label.astype(np.int64)
    return session.run(["image"], inputs)[0]


def sample_latents(spec: dict[str, Any], label: int, seed: int | None) -> np.ndarray:
    """Sample latents f32[1, D] from the prior; a mixture picks a component, then mean + L·eps."""
    rng, prior = np.random.default_rng(seed), spec["prior"]
    d = prior["latent_dim"]
    if prior["kind"] == "normal":
        return rng.standard_normal((1, d)).astype(np.float32)
    if prior["kind"] == "uniform":
        return rng.uniform(prior["low"], prior["high"], (1, d)).astype(np.float32)
    row = label if len(prior["weights"]) > 1 else 0
    weights = np.array(prior["weights"][row])
    component = rng.choice(len(weights), p=weights / weights.sum())
    factor = np.zeros((d, d))
    factor[np.tril_indices(d)] = prior["cholesky"][row][component]
    z = np.array(prior["mean"][row][component]) + factor @ rng.standard_normal(d)
    return z[None].astype(np.float32)


def main() -> None:
    """Sample, decode and write a PGM (grey) or PPM (colour) file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph")
    parser.add_argument("out", type=Path)
    parser.add_argument("--label", help="a class name")
    parser.add_argument("--seed", type=int)
    chosen = parser.parse_args()
    session, spec = open_graph(chosen.graph)
    classes = spec["classes"]
    if chosen.label is not None and chosen.label not in classes:
        parser.error(f"unknown class {chosen.label!r}, expected one of {classes}")
    label = len(classes) if chosen.label is None else classes.index(chosen.label)
    z = sample_latents(spec, label, chosen.seed)
    image = decode(session, spec, z, np.array([label]))[0]
    channels, height, width = image.shape
    pixels = np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)
    kind = 5 if channels == 1 else 6
    chosen.out.write_bytes(f"P{kind}\n{width} {height}\n255\n".encode() + pixels.tobytes())


if __name__ == "__main__":
    main()
