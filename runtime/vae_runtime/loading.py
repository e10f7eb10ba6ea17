"""From a bundle's name to a model."""

from __future__ import annotations

from pathlib import Path

from .autoencoder import Autoencoder
from .bundle import open_bundle
from .loaded import PLAIN

DEFAULT_BUNDLE = "mnist"


def load(
    source: str | Path = DEFAULT_BUNDLE,
    *,
    device: str = "auto",
    threads: int = 1,
    variant: str = PLAIN,
    tf32: bool = False,
) -> Autoencoder:
    """Open a bundle.

    Args:
        source: a folder or `.zip` that vae-export wrote, or an embedded bundle's name (`mnist`).
        device: `auto` (CUDA if it works, else the CPU), `cpu`, `cuda` or `cuda:N`.
        threads: of one run; for models this small one is the fastest.
        variant: precision of the graphs, where the bundle has more than `fp32`: `fp16`, `int8`.
        tf32: lets CUDA round to ten bits of mantissa: faster, not the same pixels.

    Raises:
        NotFound: no such bundle.
        InputError: not a bundle, or one of a newer format.
        IntegrityError: a file is damaged (found when it is first needed).
        DeviceError: CUDA was asked for and is not available (likewise).
    """
    return Autoencoder(
        open_bundle(source), device=device, threads=threads, variant=variant, tf32=tf32
    )
