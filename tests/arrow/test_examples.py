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


def run_example(name: str, *args: object) -> None:
    command = [sys.executable, EXAMPLES / name / "encode.py", *args]
    done = subprocess.run(
        [str(arg) for arg in command],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def check_example(
    name: str, parquet: Callable[..., Path], table: Any, bundle: Path, out: Path, *args: str
) -> None:
    """Run an example on sixty rows, one of them bad, and compare the results with the library's."""
    images = table["image"].to_pylist()
    images[3] = images[3][:60]
    plain = pa.array(images, pa.list_(pa.uint8()))
    rows = table.set_column(table.column_names.index("image"), "image", plain)
    run_example(name, parquet(rows), out, "--bundle", bundle, *args)
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


needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed"
)
needs_spark = pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="Spark needs pyspark and Java, not installed",
)


@needs_ray
def test_ray_data(args: Args) -> None:
    check_example("ray_data", *args, "--blocks", "3")


@needs_spark
def test_spark(args: Args) -> None:
    check_example("spark", *args)


@pytest.mark.parametrize(
    "engine", [pytest.param("ray_data", marks=needs_ray), pytest.param("spark", marks=needs_spark)]
)
def test_engines_number_the_rows(engine: str, args: Args) -> None:
    """The scores of each row are those of its number, whatever the engine counted."""
    parquet, table, bundle, out = args
    rows = table.set_column(1, "image", table["image"].cast(pa.list_(pa.uint8())))
    run_example(engine, parquet(rows), out, "--bundle", bundle, "--verb", "score")
    found = pa.concat_tables(pq.read_table(file) for file in sorted(out.glob("*.parquet")))
    found = found.sort_by("name")
    numbers = found["row"].to_pylist()
    assert len(set(numbers)) == 60
    again = rows.sort_by("name").append_column("row", pa.array(numbers))
    expected = Mapper("score", bundle)(again)
    assert found["negative_elbo"].to_pylist() == expected["negative_elbo"].to_pylist()


IMAGES = """
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq, ray
from vae_runtime.arrow.columns import RowErrors, read_images
from vae_runtime.bundle.spec import ImageSpec
source, channels, parquet = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def pixels(table):
    errors = RowErrors(table.num_rows)
    column, field = table["image"], table.schema.field("image")
    images = read_images(column, ImageSpec(channels, 8, 6), errors, field)
    assert not errors.reasons, errors.reasons
    return pa.table({"path": table["path"], "pixels": list(images.reshape(len(images), -1))})
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
mode = {1: "L", 3: "RGB"}[channels]
rows = ray.data.read_images(source, mode=mode, include_paths=True)
found = rows.map_batches(pixels, batch_format="pyarrow").take_all()
found.sort(key=lambda row: row["path"])
np.save("pixels.npy", np.stack([row["pixels"] for row in found]))
rows.write_parquet(parquet)
"""


@needs_ray
@pytest.mark.parametrize("channels", [1, 3])
def test_images_that_ray_reads_are_the_same(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray makes tensors of H×W×C or H×W, in a type of its own that other processes do not know."""
    from vae_runtime.arrow.columns import RowErrors, read_images
    from vae_runtime.bundle.spec import ImageSpec
    from vae_runtime.images import encode_image

    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (6, channels, 8, 6), np.uint8)
    Path("images").mkdir()
    for k, image in enumerate(images):
        Path("images", f"{k}.png").write_bytes(encode_image(image))
    command = [sys.executable, "-c", IMAGES, "images", str(channels), str(tmp_path / "stored")]
    done = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert np.array_equal(np.load("pixels.npy"), images.reshape(6, -1))
    stored = pq.read_table("stored").sort_by("path")
    assert "extension<ray" not in str(stored.schema)  # this process has not imported Ray
    field = stored.schema.field("image")
    found = read_images(stored["image"], ImageSpec(channels, 8, 6), RowErrors(6), field)
    assert np.array_equal(found, images)
