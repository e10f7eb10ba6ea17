"""Encode a Parquet data set with Spark.

    pip install "../..[cpu,arrow]" pyspark pandas     # and a Java runtime
    PYSPARK_PYTHON=$(which python) python encode.py digits.parquet latents/ [--bundle BUNDLE]

Every Python worker opens the bundle once. Spark has no lists of a fixed size, hence `fixed=False`.
"""

from __future__ import annotations

import argparse

from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from vae_runtime.arrow import Mapper


def main() -> None:
    """Read, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--bundle", default="mnist")
    chosen = parser.parse_args()

    encode = Mapper("encode", chosen.bundle, fixed=False)
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(chosen.source)
    schema = from_arrow_schema(encode.schema(to_arrow_schema(rows.schema)))
    rows.mapInArrow(encode.batches, schema).write.parquet(chosen.out)
    spark.stop()


if __name__ == "__main__":
    main()
