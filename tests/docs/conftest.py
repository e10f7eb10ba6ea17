"""Fixtures: the folder that the examples run in, and `vae-run` in this process."""

from tests.runtime.conftest import cvae_path, run, vae_path

from .workspace import examples

__all__ = ["cvae_path", "examples", "run", "vae_path"]
