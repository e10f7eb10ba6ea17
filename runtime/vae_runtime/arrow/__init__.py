"""Millions of images: Arrow tables in, Arrow tables out, on the engines that people already run.

from vae_runtime.arrow import Mapper

encode = Mapper("encode", "cvae/")   # small, picklable, torch-free; opens the bundle in each worker
latents = encode(table)                # pyarrow.Table with a column `image` → `z`, `error`
"""

from __future__ import annotations

from ..dependencies import require

require("batch work", "pyarrow", extra="cpu,dask")

from .mapper import Mapper  # noqa: E402 - without pyarrow the line above says what to install

__all__ = ["Mapper"]
