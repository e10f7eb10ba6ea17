"""Encode a Parquet data set with `multiprocessing`; joblib's `Parallel` works the same way.

pip install "../..[cpu,arrow]"
python encode.py digits.parquet latents.parquet [--bundle BUNDLE] [--processes 2]
"""

from __future__ import annotations

import argparse
import multiprocessing

import pyarrow as pa
import pyarrow.parquet as pq

from vae_runtime.arrow import Mapper


def main() -> None:
    """Read, encode, write. The processes receive tables, and the results come back in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--bundle", default="mnist")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()

    encode = Mapper("encode", chosen.bundle)
    with pq.ParquetFile(chosen.source) as source:
        schema = encode.schema(source.schema_arrow)
        tables = (pa.Table.from_batches([batch]) for batch in source.iter_batches(4096))
        with (
            multiprocessing.get_context("spawn").Pool(chosen.processes) as pool,
            pq.ParquetWriter(chosen.out, schema) as out,
        ):
            for latents in pool.imap(encode, tables):
                out.write_table(latents)


if __name__ == "__main__":
    main()
