"""Run exported autoencoders without torch.

import vae_runtime as vae

model = vae.load("cvae/")
images = model.sample(16, label=3, seed=0)  # float32 [16, 1, 28, 28] in [0, 1]
vae.grid(images)  # a Pillow image: shows in a notebook

decoder = vae.Decoder("conditional_decoder.onnx")  # a single graph needs no bundle
pixels = decoder(z, label=3, dtype="uint8")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import VaeError

if TYPE_CHECKING:
    from .autoencoder import Autoencoder
    from .graphs import Decoder, Encoder, Sampler
    from .grids import grid, save
    from .loading import load
    from .prior import Prior

__all__ = [
    "load",
    "grid",
    "save",
    "Autoencoder",
    "Decoder",
    "Encoder",
    "Sampler",
    "Prior",
    "VaeError",
    "__version__",
]

_HOME = {
    "load": "loading",
    "grid": "grids",
    "save": "grids",
    "Autoencoder": "autoencoder",
    "Decoder": "graphs",
    "Encoder": "graphs",
    "Sampler": "graphs",
    "Prior": "prior",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `vae-run --help` imports neither numpy nor onnxruntime.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
