"""`vae-run batch` in one process: its parts, their metadata, other readers, and bad rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.dataset as ds  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime import __version__  # noqa: E402
from vae_runtime.arrow import Mapper  # noqa: E402

from .tables import matrix, provenance, read  # noqa: E402

pytestmark = pytest.mark.torch_free

Write = Callable[..., Path]


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "score", "sample"])
@pytest.mark.parametrize("part_rows", [1, 20, 1000])
def test_a_job_gives_the_same_as_one_call(
    verb: str, part_rows: int, run: Run, parquet: Write, cvae_path: Path, table: Any
) -> None:
    source = parquet()
    done = run("batch", verb, source, "out", "-b", cvae_path, "--part-rows", part_rows)
    parts = {1: "9 parts", 20: "3 parts", 1000: "1 part"}[part_rows]
    assert done == (0, b"", f"wrote 60 rows in {parts} to out, none refused\n")
    numbered = table.append_column("row", pa.array(np.arange(60)))
    assert read(Path("out")).equals(Mapper(verb, cvae_path)(numbered))
    rows = {1: [7] * 8 + [4], 20: [21, 21, 18], 1000: [60]}[part_rows]
    files = sorted(Path("out").iterdir())
    assert [file.name for file in files] == [f"part-{k:06d}.parquet" for k in range(len(rows))]
    found = [provenance(file) for file in files]
    assert [item["rows"] for item in found] == rows
    assert [item["start"] for item in found] == [0, *np.cumsum(rows)[:-1].tolist()]


def test_a_part_holds_its_provenance(run: Run, parquet: Write, cvae_path: Path) -> None:
    options = ("-b", cvae_path, "--part-rows", 20, "--seed", 7, "--device", "cpu")
    assert run("batch", "score", parquet(), "out", *options).code == 0
    mapper = Mapper("score", cvae_path, seed=7, device="cpu")
    found = provenance(Path("out/part-000001.parquet"))
    assert len(found.pop("input_sha256")) == 64
    assert found == {
        "format": 1, "verb": "score", "bundle_sha256": mapper.sha256,
        "options": vars(mapper.options), "parts": 3, "part": 1, "start": 21, "rows": 21,
        "columns": ["name", "label", "row", "mse", "kl", "negative_elbo", "error"],
        "errors": 0, "version": __version__, "unreadable": [],
    }  # fmt: skip
    stored = pq.read_metadata("out/part-000001.parquet")
    assert set(stored.metadata) == {b"ARROW:schema", b"vae_onnx"}
    assert pq.read_schema("out/part-000001.parquet").metadata is None  # tables are without it


def read_with(reader: str, folder: str) -> Any:
    """Read a folder with another library; return a table."""
    if reader == "pyarrow.parquet":
        return pq.read_table(folder)
    if reader == "pyarrow.dataset":
        return ds.dataset(folder).to_table()
    module = pytest.importorskip(reader, reason=f"{reader} is not installed: the extra dev")
    if reader == "pandas":
        return pa.Table.from_pandas(module.read_parquet(folder), preserve_index=False)
    if reader == "polars":
        return module.read_parquet(folder).to_arrow()
    return module.sql(f"from read_parquet('{folder}') order by row").to_arrow_table()


@pytest.mark.parametrize(
    "reader", ["pyarrow.parquet", "pyarrow.dataset", "pandas", "polars", "duckdb"]
)
def test_other_readers_read_the_folder_as_one_data_set(
    reader: str, run: Run, parquet: Write, table: Any, cvae_path: Path
) -> None:
    """One row is bad, in a part of its own."""
    images = table["image"].to_pylist()
    images[3] = None  # a part with an error must have the same schema as the others
    rows = table.set_column(1, "image", pa.array(images, pa.list_(pa.uint8())))
    source = parquet(rows)
    assert run("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 7).code == 3
    numbered = rows.append_column("row", pa.array(np.arange(60)))
    expected = Mapper("encode", cvae_path)(numbered)
    found = read_with(reader, "out")
    if reader.startswith("pyarrow"):
        assert found.equals(expected)
    assert found.column_names == expected.column_names
    for name in expected.column_names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_the_bytes_of_parts_do_not_depend_on_threads(
    run: Run, parquet: Write, cvae_path: Path
) -> None:
    source = parquet()
    for threads in (1, 2, 5):
        run("batch", "encode", source, f"t{threads}", "-b", cvae_path, "--threads", threads)
    files = [Path(f"t{n}/part-000000.parquet").read_bytes() for n in (1, 2, 5)]
    assert files[0] == files[1] == files[2]


def test_sample_takes_a_number_of_rows(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
    options = ("-b", cvae_path, "--seed", 7, "--label", 3)
    assert run("batch", "sample", 50, "a", *options).code == 0
    assert run("batch", "sample", 50, "b", *options, "--part-rows", 9).code == 0
    images = cvae.sample(50, 3, seed=7, dtype="uint8").reshape(50, 64)
    for folder, parts in (("a", 1), ("b", 6)):
        assert len(list(Path(folder).glob("part-*"))) == parts
        assert np.array_equal(matrix(read(Path(folder)), "image"), images)
        assert read(Path(folder))["row"].to_pylist() == list(range(50))
    done = run("batch", "encode", 50, "c", "-b", cvae_path)
    assert (done.code, done.error) == (
        2, "error: 50: a number of rows, which only sample accepts. "
        "Name a Parquet file, a folder or a glob.",
    )  # fmt: skip


def test_bad_rows_are_counted_and_kept(run: Run, parquet: Write, cvae_path: Path) -> None:
    images = [[1] * 64] * 10
    images[3], images[8] = None, [1] * 63  # type: ignore[call-overload]
    rows = {"image": images, "id": list(range(10)), "label": [3] * 10}
    source = parquet(pa.table(rows), group=4)
    done = run("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 4)
    assert (done.code, done.error) == (
        3,
        "error: 2 of 10 rows in 3 parts to out were refused; all others are written. "
        "The column error says why; the first: image: missing",
    )
    assert [provenance(file)["errors"] for file in sorted(Path("out").iterdir())] == [1, 0, 1]
    rows = read(Path("out"))
    assert rows["id"].to_pylist() == list(range(10))
    reasons = {3: "image: missing", 8: "image: 63 numbers, expected 64"}
    assert rows["error"].to_pylist() == [reasons.get(i) for i in range(10)]
    assert [i for i, z in enumerate(rows["z"].to_pylist()) if z is None] == [3, 8]
    done = run("batch", "encode", source, "again", "-b", cvae_path, "--json")
    assert done.code == 3
    summary = json.loads(done.out)
    assert (summary["rows"], summary["errors"], summary["parts"]) == (10, 2, 1)


def test_folders_globs_and_small_files(
    run: Run, parquet: Write, table: Any, cvae_path: Path
) -> None:
    for i in range(6):
        parquet(table.slice(10 * i, 10), f"data/{'deep/' if i > 3 else ''}{5 - i}.parquet")
    parquet(table, "data/_old.parquet")
    parquet(table, "data/.hidden/x.parquet")
    run("batch", "encode", "data", "a", "-b", cvae_path, "--part-rows", 25)
    assert [provenance(file)["rows"] for file in sorted(Path("a").iterdir())] == [27, 30, 3]
    # In the order of the paths: 2, 3, 4, 5, then deep/0 and deep/1.
    starts = [30, 20, 10, 0, 50, 40]
    assert read(Path("a"))["name"].to_pylist() == [f"n{s + k}" for s in starts for k in range(10)]
    assert run("batch", "encode", "data/[23].parquet", "b", "-b", cvae_path).code == 0
    assert read(Path("b")).num_rows == 20
    changed = table.set_column(2, "label", pa.array([b"?"] * 60))
    parquet(changed, "data/6.parquet")
    done = run("batch", "encode", "data", "c", "-b", cvae_path)
    assert done.code == 3
    assert (
        f"data/6.parquet: its columns differ from those of {Path('data/2.parquet').resolve()}"
        in (done.error)
    )


@pytest.mark.parametrize("limit", [1, 20, 21, 59, 60, 100])
def test_a_limit_cuts_the_last_part(limit: int, run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    options = ("-b", cvae_path, "--part-rows", 20, "--limit", limit)
    assert run("batch", "encode", source, "out", *options).code == 0
    n = min(limit, 60)
    assert read(Path("out"))["name"].to_pylist() == [f"n{i}" for i in range(n)]


def test_the_input_may_have_its_own_row_numbers(
    run: Run, parquet: Write, cvae_path: Path, cvae: vae.Autoencoder
) -> None:
    source = parquet(pa.table({"key": [30, 10, 20]}))
    options = ("-b", cvae_path, "--row-column", "key", "--digit", "5", "--seed", 2)
    assert run("batch", "sample", source, "out", *options).code == 0
    expected = cvae.sample(31, 5, seed=2, dtype="uint8")[[30, 10, 20]].reshape(3, 64)
    assert np.array_equal(matrix(read(Path("out")), "image"), expected)
