"""Encode a Parquet data set with Spark; or reconstruct, score or sample.

    pip install "../..[cpu,arrow]" pyspark pandas     # and a Java runtime
    PYSPARK_PYTHON=$(which python) python encode.py digits.parquet latents/ [--verb VERB]

Every Python worker opens the bundle once. Spark has no lists of a fixed size, hence `fixed=False`.
`score` and `sample` need row numbers, which determine each row's random numbers. Those of
`monotonically_increasing_id` differ between rows, and are the same for the same partitions.
"""

from __future__ import annotations

import argparse

from pyspark.sql import SparkSession
from pyspark.sql.functions import monotonically_increasing_id
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

from vae_runtime.arrow import Mapper


def main() -> None:
    """Read, encode, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("out")
    parser.add_argument("--verb", default="encode")
    parser.add_argument("--bundle", default="mnist")
    chosen = parser.parse_args()

    mapper = Mapper(chosen.verb, chosen.bundle, fixed=False)
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(chosen.source)
    if chosen.verb in ("score", "sample"):
        rows = rows.withColumn("row", monotonically_increasing_id())
    schema = from_arrow_schema(mapper.schema(to_arrow_schema(rows.schema)))
    rows.mapInArrow(mapper.batches, schema).write.parquet(chosen.out)
    spark.stop()


if __name__ == "__main__":
    main()
