"""Draw an image with onnxruntime and NumPy alone: `python digit.py sampler.onnx 3 three.pgm`."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

graph, label, out = sys.argv[1:]
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
size = session.get_inputs()[0].shape[1]  # the latent dimensions, and one number for the mixture
noise = np.random.default_rng().standard_normal((1, size), np.float32)
condition = {"label": np.array([int(label)])} if len(session.get_inputs()) > 1 else {}
image, z = session.run(["image", "z"], {"noise": noise, **condition})
_, _, height, width = image.shape
pixels = np.rint(image * 255).astype(np.uint8)
Path(out).write_bytes(b"P5 %d %d 255\n" % (width, height) + pixels.tobytes())
