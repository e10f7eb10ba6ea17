"""Run a bundle over Arrow tables of any size, on threads, processes, Dask, Ray or Spark.

from vae_runtime.arrow import Mapper

encode = Mapper("encode", "cvae/")  # small and picklable; every worker opens the bundle itself
latents = encode(table)  # from a pyarrow.Table with a column `image` to one with `z` and `error`
"""

from __future__ import annotations

from ..dependencies import require

require("batch work", "pyarrow", extra="cpu,arrow")

from .mapper import Mapper  # noqa: E402 - pyarrow must be checked before it is imported

__all__ = ["Mapper"]
