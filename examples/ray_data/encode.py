"""Encode a Parquet data set with Ray Data.

    pip install "../..[cpu,arrow]" "ray[data]"
    python encode.py digits.parquet latents/ [--bundle BUNDLE] [--blocks 200]

Every worker opens the bundle once. A row that cannot be used has the reason in the column `error`.
"""

from __future__ import annotations

import argparse

import ray

from vae_runtime.arrow import Mapper


def main() -> None:
    """Read, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--bundle", default="mnist")
    parser.add_argument("--blocks", type=int, default=200)
    chosen = parser.parse_args()

    encode = Mapper("encode", chosen.bundle)
    rows = ray.data.read_parquet(chosen.source, override_num_blocks=chosen.blocks)
    rows.map_batches(encode, batch_format="pyarrow", batch_size=4096).write_parquet(chosen.out)


if __name__ == "__main__":
    main()
