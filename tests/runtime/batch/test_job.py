"""`vae-run batch` in one process: parts, their list, resuming, bad rows."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra dask")


from vae_runtime.arrow import Mapper, job  # noqa: E402

from ..conftest import Run  # noqa: E402
from .tables import matrix, read  # noqa: E402

pytestmark = pytest.mark.torch_free

Write = Callable[..., Path]


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "score", "sample"])
@pytest.mark.parametrize("part_rows", [1, 20, 1000])
def test_a_job_is_what_one_call_gives(
    verb: str, part_rows: int, run: Run, parquet: Write, cvae_path: Path, table: Any
) -> None:
    source = parquet()
    done = run("batch", verb, source, "out", "-b", cvae_path, "--part-rows", part_rows)
    parts = {1: "9 parts", 20: "3 parts", 1000: "1 part"}[part_rows]
    assert done == (0, b"", f"wrote 60 rows in {parts} to out, none refused\n")
    numbered = table.append_column("row", pa.array(np.arange(60)))
    assert read(Path("out")).equals(Mapper(verb, cvae_path)(numbered))
    found = json.loads(Path("out/parts.json").read_text())
    assert (found["verb"], found["rows"], found["errors"]) == (verb, 60, 0)
    assert [item["rows"] for item in found["files"]] == (
        {1: [7] * 8 + [4], 20: [21, 21, 18], 1000: [60]}[part_rows]
    )
    for item in found["files"]:
        raw = Path("out", item["file"]).read_bytes()
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (item["bytes"], item["sha256"])
    names = {item["file"] for item in found["files"]} | {"parts.json"}
    assert {p.name for p in Path("out").iterdir()} == names


def test_the_bytes_of_the_parts_do_not_depend_on_threads(
    run: Run, parquet: Write, cvae_path: Path
) -> None:
    source = parquet()
    for threads in (1, 2, 5):
        run("batch", "encode", source, f"t{threads}", "-b", cvae_path, "--threads", threads)
    lists = [Path(f"t{n}/parts.json").read_bytes() for n in (1, 2, 5)]
    assert lists[0] == lists[1] == lists[2]


def test_a_number_of_samples(run: Run, cvae_path: Path, cvae: vae.Autoencoder) -> None:
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
        2, "error: 50: a number of rows is for `sample` alone, and at least 1"
    )  # fmt: skip


def test_bad_rows_are_counted_and_kept(run: Run, parquet: Write, cvae_path: Path) -> None:
    images = [[1] * 64] * 10
    images[3], images[8] = None, [1] * 63  # type: ignore[call-overload]
    source = parquet(pa.table({"image": images, "id": list(range(10))}), group=4)
    done = run("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 4)
    assert (done.code, done.error) == (
        3,
        "error: 2 of 10 rows in 3 parts to out were refused; all others are written. "
        "The column error says why; the first: image: missing",
    )
    found = json.loads(Path("out/parts.json").read_text())
    assert [item["errors"] for item in found["files"]] == [1, 0, 1]
    rows = read(Path("out"))
    assert rows["id"].to_pylist() == list(range(10))
    reasons = {3: "image: missing", 8: "image: 63 numbers, expected 64"}
    assert rows["error"].to_pylist() == [reasons.get(i) for i in range(10)]
    assert [i for i, z in enumerate(rows["z"].to_pylist()) if z is None] == [3, 8]
    done = run("batch", "encode", source, "again", "-b", cvae_path, "--json")
    assert done.code == 3
    facts = json.loads(done.out)
    assert (facts["rows"], facts["errors"], facts["parts"]) == (10, 2, 1)


def test_folders_globs_and_small_files(
    run: Run, parquet: Write, table: Any, cvae_path: Path
) -> None:
    for i in range(6):
        parquet(table.slice(10 * i, 10), f"data/{'deep/' if i > 3 else ''}{5 - i}.parquet")
    parquet(table, "data/_old.parquet")
    parquet(table, "data/.hidden/x.parquet")
    run("batch", "encode", "data", "a", "-b", cvae_path, "--part-rows", 25)
    found = json.loads(Path("a/parts.json").read_text())
    assert [item["rows"] for item in found["files"]] == [27, 30, 3]
    # In the order of the paths: 2, 3, 4, 5, then deep/0 and deep/1.
    starts = [30, 20, 10, 0, 50, 40]
    assert read(Path("a"))["name"].to_pylist() == [f"n{s + k}" for s in starts for k in range(10)]
    assert run("batch", "encode", "data/[23].parquet", "b", "-b", cvae_path).code == 0
    assert read(Path("b")).num_rows == 20
    parquet(table.drop_columns("label"), "data/6.parquet")
    done = run("batch", "encode", "data", "c", "-b", cvae_path)
    assert done.code == 3
    assert done.error.endswith("data/6.parquet: its columns differ from those of "
                               f"{Path('data/2.parquet').resolve()}")  # fmt: skip


@pytest.mark.parametrize("limit", [1, 20, 21, 59, 60, 100])
def test_a_limit(limit: int, run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    options = ("-b", cvae_path, "--part-rows", 20, "--limit", limit)
    assert run("batch", "encode", source, "out", *options).code == 0
    n = min(limit, 60)
    assert read(Path("out"))["name"].to_pylist() == [f"n{i}" for i in range(n)]


def test_the_own_column_of_row_numbers(
    run: Run, parquet: Write, cvae_path: Path, cvae: vae.Autoencoder
) -> None:
    source = parquet(pa.table({"key": [30, 10, 20]}))
    options = ("-b", cvae_path, "--row-column", "key", "--digit", "5", "--seed", 2)
    assert run("batch", "sample", source, "out", *options).code == 0
    expected = cvae.sample(31, 5, seed=2, dtype="uint8")[[30, 10, 20]].reshape(3, 64)
    assert np.array_equal(matrix(read(Path("out")), "image"), expected)


def test_resume_does_only_what_is_missing(
    run: Run, parquet: Write, cvae_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = parquet()
    call = ("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 20)
    assert run(*call).code == 0
    before = {p.name: p.read_bytes() for p in Path("out").iterdir()}
    done = run(*call)
    assert (done.code, done.error) == (
        3,
        "error: out: not empty, it holds part-000000.parquet. Name another folder, or use "
        "--resume.",
    )
    Path("out/part-000000.parquet").unlink()
    Path("out/part-000002.parquet").write_bytes(b"cut off")
    Path("out/.part-000001.parquet.0123.part").write_bytes(b"of a worker that was killed")
    worked: list[int] = []
    real = job.run_part
    monkeypatch.setattr(
        job, "run_part", lambda *a, **k: worked.append(a[2].number) or real(*a, **k)
    )
    done = run(*call, "--resume")
    assert done.err == (
        "wrote 60 rows in 3 parts to out, 1 of them from an earlier run, none refused\n"
    )
    assert worked == [0, 2]
    assert {p.name: p.read_bytes() for p in Path("out").iterdir()} == before
    assert run(*call, "--resume").code == 0
    assert worked == [0, 2]


def test_resume_refuses_another_job(run: Run, parquet: Write, cvae_path: Path, table: Any) -> None:
    source = parquet()
    call = ["batch", "score", source, "out", "-b", cvae_path]
    assert run(*call).code == 0
    end = "is another. Name another folder."
    for options, wrong in (
        (["--seed", "1"], "options"),
        (["--limit", "9"], "input_sha256"),
        (["-b", cvae_path.parent / "cvae_mlp.zip"], "bundle_sha256"),
    ):
        done = run(*call, *options, "--resume")
        assert (done.code, done.error) == (3, f"error: out: holds another job, its {wrong} {end}")
    parquet(table.slice(0, 59).append_column("x", table["label"].slice(0, 59)))
    assert "input_sha256" in run(*call, "--resume").error
    shutil.rmtree("out")
    Path("out").mkdir()
    Path("out/x").touch()
    assert run(*call, "--resume").error == ("error: out: no parts.json in it, so no job to resume")
    Path("out/parts.json").write_text("{")
    assert run(*call, "--resume").error == ("error: out/parts.json: damaged. Name another folder.")
