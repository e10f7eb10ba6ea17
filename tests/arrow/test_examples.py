"""The batch examples write the same results as the library. Ray and Spark are too heavy for CI:

pip install "ray[data]" pyspark pandas && pytest -m slow tests/arrow/test_examples.py
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from vae_runtime.arrow import Mapper  # noqa: E402

from .tables import matrix  # noqa: E402

pytestmark = [pytest.mark.torch_free, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPARK_LOCAL_IP": "127.0.0.1",
    "PYSPARK_PYTHON": sys.executable,
}


def check_example(
    name: str, parquet: Callable[..., Path], table: Any, bundle: Path, out: Path, *args: str
) -> None:
    """Run an example on sixty rows, one of them bad, and compare the results with the library's."""
    images = table["image"].to_pylist()
    images[3] = images[3][:60]
    plain = pa.array(images, pa.list_(pa.uint8()))
    rows = table.set_column(table.column_names.index("image"), "image", plain)
    script = EXAMPLES / name / "encode.py"
    command = [sys.executable, script, parquet(rows), out, "--bundle", bundle, *args]
    done = subprocess.run(
        [str(arg) for arg in command],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    files = sorted(out.glob("*.parquet")) if out.is_dir() else [out]
    parts = [pq.read_table(file) for file in files]
    found = pa.concat_tables(parts).sort_by("name")
    expected = Mapper("encode", bundle)(rows).sort_by("name")
    assert found["name"].to_pylist() == expected["name"].to_pylist()
    assert found["error"].to_pylist() == expected["error"].to_pylist()
    assert found["error"].null_count == len(images) - 1
    good = found["error"].is_null()
    assert np.array_equal(matrix(found.filter(good), "z"), matrix(expected.filter(good), "z"))


Args = tuple[Callable[..., Path], Any, Path, Path]


@pytest.fixture
def args(parquet: Callable[..., Path], table: Any, cvae_path: Path, tmp_path: Path) -> Args:
    return parquet, table, cvae_path, tmp_path / "latents"


def test_processes(args: Args) -> None:
    check_example("processes", *args)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_ray_data(args: Args) -> None:
    check_example("ray_data", *args, "--blocks", "3")


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
@pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java, not installed")
def test_spark(args: Args) -> None:
    check_example("spark", *args)
