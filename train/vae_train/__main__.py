"""Entry point of `python -m vae_train` and `torchrun --nproc-per-node N -m vae_train`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
