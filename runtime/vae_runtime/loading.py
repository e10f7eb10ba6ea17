"""`load`: open a bundle as an `Autoencoder`."""

from __future__ import annotations

from pathlib import Path

from .autoencoder import Autoencoder
from .bundle.reader import open_bundle
from .graph_set import DEFAULT_VARIANT

DEFAULT_BUNDLE = "mnist"


def load(
    source: str | Path = DEFAULT_BUNDLE,
    *,
    device: str = "auto",
    threads: int = 1,
    variant: str = DEFAULT_VARIANT,
    tf32: bool = False,
    preload: bool = False,
) -> Autoencoder:
    """Open a bundle; every argument is checked here, not at the first call of a method.

    Args:
        source: a folder or `.zip` that vae-export wrote, or an embedded bundle's name: `mnist`
            or `fashion`.
        device: `auto` (CUDA if it works, else the CPU), `cpu`, `cuda`, `cuda:N`, or another
            execution provider that onnxruntime was built with, such as `openvino` or `directml`.
        threads: threads per run; small models run fastest with one.
        variant: precision of the graphs: `fp32`, or `fp16` or `int8` if the bundle has them.
        tf32: let CUDA use TF32 (ten mantissa bits), which is faster but alters the pixels.
        preload: load every graph now. By default, a graph is loaded on first use.

    Raises:
        NotFound: there is no such bundle.
        InputError: the source is not a bundle, or its format is too new.
        UsageError: `source`, the device or `threads` is invalid, or there is no such variant.
        IntegrityError: a file is damaged; without `preload`, a graph is only checked on first use.
        DeviceError: the requested device is not available.
    """
    model = Autoencoder(
        open_bundle(source), device=device, threads=threads, variant=variant, tf32=tf32
    )
    if preload:
        model.preload()
    return model
