"""Save a contact sheet of one class as a PNG: `python sheet.py --label 3 --seed 0 threes.png`.

Needs only `pip install "../..[cpu]"`. With `--graph`, one copied file replaces the bundle:
`python sheet.py --graph conditional_decoder.onnx --label 3 threes.png`.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from PIL import Image

import vae_runtime as vae

COLUMNS = 8
GAP = 2  # pixels between two images


def from_bundle(source: str, label: str | None, n: int, seed: int) -> np.ndarray:
    """Sample n images with a bundle: u8[n, C, H, W]."""
    with vae.load(source) as model:
        return model.sample(n, label, seed, dtype="uint8")


def from_graph(path: str, label: str | None, n: int, seed: int) -> np.ndarray:
    """Sample the same images with only the decoder's file, which contains its prior."""
    with vae.Decoder(path) as decoder:
        classes = decoder.spec.classes
        index = classes.index(label) if label in classes else None
        z = decoder.spec.prior.sample(n, index, seed)
        return decoder(z, label, dtype="uint8")


def sheet(images: np.ndarray) -> Image.Image:
    """Arrange images u8[n, C, H, W] in rows of eight, on black."""
    n, channels, height, width = images.shape
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    whole = Image.new("L" if channels == 1 else "RGB", size)
    for i, image in enumerate(images):
        one = Image.fromarray(image[0] if channels == 1 else image.transpose(1, 2, 0))
        whole.paste(one, (i % columns * (width + GAP), i // columns * (height + GAP)))
    return whole


def main() -> None:
    """Sample and save; print an error in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--bundle", default="mnist", help="folder, .zip, or an embedded name")
    parser.add_argument("--graph", help="a decoder file instead of a bundle")
    parser.add_argument("--label")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-n", type=int, default=16)
    chosen = parser.parse_args()
    sample, source = from_bundle, chosen.bundle
    if chosen.graph:
        sample, source = from_graph, chosen.graph
    try:
        sheet(sample(source, chosen.label, chosen.n, chosen.seed)).save(chosen.out)
    except vae.VaeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
