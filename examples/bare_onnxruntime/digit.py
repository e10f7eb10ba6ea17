"""One image from a decoder with onnxruntime and NumPy alone: what any app can do.

`python digit.py conditional_decoder.onnx --label 3 three.pgm`. The file says all that is needed in
its metadata: shapes, class names, and the mixture that latents are drawn from. vae_runtime adds what
is missing here: checks of the file, seeds that give the same digits everywhere, chunks, CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read once, at the import
import onnxruntime


def open_graph(path: str) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    """A session with one thread, the fastest for graphs this small, and what the file says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["vae_onnx"])


def decode(
    session: onnxruntime.InferenceSession, spec: dict[str, Any], z: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Codes f32[N, D] and labels i64[N] → f32[N, C, H, W] in [0, 1].

    onnxruntime runs some wrong labels without a word, so they are checked here; the index behind
    the last class means "no label".
    """
    inputs = {"z": np.ascontiguousarray(z, np.float32)}
    if spec["classes"]:
        if label.size and not (label.min() >= 0 and label.max() <= len(spec["classes"])):
            raise ValueError(f"label: expected 0 to {len(spec['classes'])}")
        inputs["label"] = label.astype(np.int64)
    return session.run(["image"], inputs)[0]


def draw(spec: dict[str, Any], label: int, seed: int | None) -> np.ndarray:
    """One code f32[1, D]: of a mixture, a component by its weight, then mean + L·eps."""
    rng, prior, d = np.random.default_rng(seed), spec["prior"], spec["latent_dim"]
    if prior["kind"] == "normal":
        return rng.standard_normal((1, d)).astype(np.float32)
    if prior["kind"] == "uniform":
        return rng.uniform(prior["low"], prior["high"], (1, d)).astype(np.float32)
    row = label if len(prior["weights"]) > 1 else 0
    weights = np.array(prior["weights"][row])
    one = rng.choice(len(weights), p=weights / weights.sum())
    factor = np.zeros((d, d))
    factor[np.tril_indices(d)] = prior["cholesky"][row][one]
    z = np.array(prior["mean"][row][one]) + factor @ rng.standard_normal(d)
    return z[None].astype(np.float32)


def main() -> None:
    """Parse, draw, decode, write a PGM (grey) or PPM (colour)."""
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
    image = decode(session, spec, draw(spec, label, chosen.seed), np.array([label]))[0]
    channels, height, width = image.shape
    pixels = np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0)
    kind = 5 if channels == 1 else 6
    chosen.out.write_bytes(f"P{kind}\n{width} {height}\n255\n".encode() + pixels.tobytes())


if __name__ == "__main__":
    main()
