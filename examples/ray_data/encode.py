"""Encode a Parquet data set with Ray Data; or reconstruct, score or sample.

    pip install "../..[cpu,arrow]" "ray[data]"
    python encode.py digits.parquet latents/ [--verb VERB] [--bundle BUNDLE] [--blocks 200]

Both places may be URLs. Every worker opens the bundle once. A row that cannot be used has the
reason in the column `error`. `score` and `sample` need row numbers, which determine each row's
random numbers; `zip` adds them.
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
    parser.add_argument("--verb", default="encode")
    parser.add_argument("--bundle", default="mnist")
    parser.add_argument("--blocks", type=int, default=200)
    chosen = parser.parse_args()

    mapper = Mapper(chosen.verb, chosen.bundle)
    rows = ray.data.read_parquet(chosen.source, override_num_blocks=chosen.blocks)
    if chosen.verb in ("score", "sample"):
        rows = rows.zip(ray.data.range(rows.count()).rename_columns({"id": "row"}))
    rows.map_batches(mapper, batch_format="pyarrow", batch_size=4096).write_parquet(chosen.out)


if __name__ == "__main__":
    main()
