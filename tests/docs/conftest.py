"""The workplace of the examples, and `vae-run` in this process."""

from tests.runtime.conftest import cvae_path, run, vae_path

from .workplace import examples

__all__ = ["cvae_path", "examples", "run", "vae_path"]
