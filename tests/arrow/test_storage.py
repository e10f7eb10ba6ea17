"""Parquet as people store it: partitions, table formats, URLs, row numbers, many small files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime.arrow import Mapper, reader, storage  # noqa: E402
from vae_runtime.errors import InputError, NotFound, UsageError  # noqa: E402

from .tables import matrix, provenance, read  # noqa: E402
from .test_job import Write  # noqa: E402

pytestmark = pytest.mark.torch_free


def test_hive_partitions_are_columns(run: Run, parquet: Write, table: Any, cvae_path: Path) -> None:
    """Sixty digits in a folder per label give the same latents as with a column of labels."""
    for k in range(10):
        rows = table.filter(pa.array(np.arange(60) % 10 == k)).drop_columns("label")
        parquet(rows, f"hive/fold=a%20b/label={k}/x.parquet")
    parquet(rows, "hive/fold=__HIVE_DEFAULT_PARTITION__/label=9/y.parquet")
    assert run("batch", "encode", "hive", "out", "-b", cvae_path).code == 0
    done = pq.read_table("out")
    assert done.column_names == ["name", "fold", "label", "row", "z", "log_var", "error"]
    assert done["fold"].to_pylist() == [None] * 6 + ["a b"] * 60
    found = done.slice(6).sort_by("name")
    expected = Mapper("encode", cvae_path)(table).sort_by("name")
    assert found["label"].to_pylist() == expected["label"].to_pylist()
    assert np.array_equal(matrix(found, "z"), matrix(expected, "z"))
    done = run("batch", "encode", "hive/*/label=[37]/*.parquet", "some", "-b", cvae_path)
    assert done.err == "wrote 12 rows in 1 part to some, none refused\n"
    assert set(pq.read_table("some")["label"].to_pylist()) == {3, 7}


def test_missing_labels_are_said(run: Run, parquet: Write, table: Any, cvae_path: Path) -> None:
    source = parquet(table.drop_columns("label"))
    note = "no labels: there is no column label, and neither --label nor --label-column is given"
    done = run("batch", "encode", source, "a", "-b", cvae_path)
    assert (done.code, done.err.splitlines()[0]) == (0, note)
    assert note not in run("batch", "encode", source, "b", "-b", cvae_path, "--label", 3).err


def test_columns_are_merged_and_chosen(
    run: Run, parquet: Write, table: Any, cvae_path: Path
) -> None:
    wide = table.append_column("id", pa.array(np.arange(60), pa.int64()))
    narrow = wide.set_column(3, "id", wide["id"].cast(pa.int16())).drop_columns("name")
    parquet(wide, "data/a.parquet")
    parquet(narrow, "data/b.parquet")
    assert run("batch", "encode", "data", "all", "-b", cvae_path).code == 0
    rows = read(Path("all"))
    assert rows.schema.field("id").type == pa.int64()
    assert rows["name"].to_pylist() == [f"n{i}" for i in range(60)] + [None] * 60
    assert rows["id"].to_pylist() == [*range(60), *range(60)]
    assert run("batch", "encode", "data", "some", "-b", cvae_path, "--columns", "id").code == 0
    some = read(Path("some"))
    assert some.column_names == ["label", "id", "row", "z", "log_var", "error"]
    assert some.equals(rows.drop_columns("name"))
    done = run("batch", "encode", "data", "x", "-b", cvae_path, "--columns", "id,colour")
    assert (done.code, done.error) == (
        2, "error: no column 'colour'. The columns are: name, image, label, id"
    )  # fmt: skip
    done = run("batch", "encode", "data", "some", "-b", cvae_path, "--resume")
    assert "from another job: its columns is " in done.error


@pytest.mark.parametrize("mark", ["_delta_log", ".hoodie", "metadata"])
def test_table_formats_are_refused(
    mark: str, run: Run, parquet: Write, table: Any, cvae_path: Path
) -> None:
    parquet(table, "lake/table/label=3/x.parquet")
    Path("lake/table", mark).mkdir()
    Path("lake/table", mark, "v1.metadata.json").touch()
    root = Path("lake/table").resolve()
    name = {"_delta_log": "a Delta Lake table", ".hoodie": "a Hudi table"}
    for source in ("lake", "lake/table", "lake/table/label=3", "lake/table/label=3/x.parquet",
                   "lake/*/label=3/*.parquet"):  # fmt: skip
        done = run("batch", "encode", source, "out", "-b", cvae_path)
        assert done.code == 3
        assert done.error.startswith(f"error: {root}: {name.get(mark, 'an Iceberg table')}")
    Path("lake/table", mark, "v1.metadata.json").unlink()
    Path("lake/table", mark).rmdir()
    Path("lake/metadata").mkdir()  # a folder of that name alone means nothing
    assert run("batch", "encode", "lake", "out", "-b", cvae_path).code == 0


def test_a_delta_table_is_read_as_the_error_says(
    parquet: Write, table: Any, cvae_path: Path, tmp_path: Path
) -> None:
    deltalake = pytest.importorskip("deltalake", reason="deltalake is not installed")
    deltalake.write_deltalake(str(tmp_path / "d"), table.set_column(
        1, "image", table["image"].cast(pa.list_(pa.int16()))))  # fmt: skip
    deltalake.DeltaTable(str(tmp_path / "d")).delete("name = 'n7'")
    with pytest.raises(InputError) as raised:
        storage.find_parquet(str(tmp_path / "d"))
    names = {"DeltaTable": deltalake.DeltaTable, "Mapper": Mapper, "BUNDLE": cvae_path}
    lines = str(raised.value).partition("deltalake: ")[2].split("; ")
    exec(lines[0], names)
    done = eval(lines[1], names)
    assert sorted(done["name"].to_pylist()) == sorted(f"n{i}" for i in range(60) if i != 7)
    assert done["error"].null_count == 59


def test_row_numbers_of_the_input_are_checked(
    run: Run, parquet: Write, table: Any, cvae_path: Path, vae_path: Path
) -> None:
    advice = "Use --row-column NAME to number the rows in a new column."
    rows = table.append_column("row", pa.array(np.arange(60) // 2))
    parquet(rows, "a/1.parquet")
    repeated = (
        "error: the input's column 'row' repeats numbers, for example 0, expected a different one "
        f"for each row, because they determine the random numbers. {advice}"
    )
    for verb in ("sample", "score"):
        done = run("batch", verb, "a", "out", "-b", cvae_path)
        assert (done.code, done.error) == (3, repeated)
    assert run("batch", "score", "a", "new", "-b", cvae_path, "--row-column", "number").code == 0
    assert read(Path("new"))["number"].to_pylist() == list(range(60))
    assert read(Path("new"))["row"].to_pylist() == rows["row"].to_pylist()
    assert run("batch", "encode", "a", "kept", "-b", cvae_path).code == 0  # nothing is random
    parquet(rows.set_column(3, "row", pa.array(["x"] * 60)), "b.parquet")
    done = run("batch", "score", "b.parquet", "out", "-b", vae_path)
    assert (done.code, done.error) == (
        3, f"error: the input's column 'row': column type string, expected integers. {advice}"
    )  # fmt: skip
    assert run("batch", "reconstruct", "b.parquet", "text", "-b", cvae_path).code == 0
    assert read(Path("text"))["row"].to_pylist() == ["x"] * 60
    # Shuffled and far apart, they give the same as the API.
    numbers = np.random.default_rng(0).permutation(60) * 10**9
    parquet(table.append_column("row", pa.array(numbers)), "c.parquet")
    assert run("batch", "sample", "c.parquet", "far", "-b", cvae_path, "--seed", 4).code == 0
    expected = Mapper("sample", cvae_path, seed=4)
    whole = expected(table.append_column("row", pa.array(numbers)))
    single = [expected(whole.slice(i, 1).select(["label", "row"])) for i in (0, 31, 59)]
    for i, one in zip((0, 31, 59), single, strict=True):
        assert one["image"][0] == whole["image"][i] == read(Path("far"))["image"][i]


def test_many_small_files_take_linear_time(
    run: Run, parquet: Write, table: Any, cvae_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of 300 files are encoded in one call, not 300."""
    for k in range(300):
        parquet(table.slice(k % 60, 1), f"small/{k:03}.parquet")
    calls: list[int] = []
    real = Mapper.__call__

    def call(self: Mapper, rows: Any) -> Any:
        calls.append(rows.num_rows)
        return real(self, rows)

    monkeypatch.setattr(Mapper, "__call__", call)
    assert run("batch", "encode", "small", "out", "-b", cvae_path).code == 0
    assert calls == [0, 300]  # the first one finds the schema
    assert read(Path("out"))["name"].to_pylist() == [f"n{k % 60}" for k in range(300)]


@pytest.mark.parametrize("kind", ["repeated", "distinct"])
def test_a_batch_is_bounded_in_bytes_whatever_a_row_weighs(kind: str, parquet: Write) -> None:
    """Sixty kilobytes per row, which Parquet stores once or for every row."""
    rng = np.random.default_rng(0)
    blobs = [b"x" * 60_000] * 600 if kind == "repeated" else [rng.bytes(60_000) for _ in range(600)]
    source = parquet(pa.table({"blob": blobs, "n": range(600)}), group=600)
    batches = list(reader.read_batches(str(source.parent), source.name, rows=4096))
    assert sum(batch.num_rows for batch in batches) == 600
    assert max(batch.nbytes for batch in batches) < 5_000_000
    light = list(reader.read_batches(str(source.parent), source.name, rows=4096, columns=["n"]))
    assert [batch.num_rows for batch in light] == [600]


def test_unreadable_files_are_listed(
    run: Run, parquet: Write, table: Any, cvae_path: Path, tmp_path: Path
) -> None:
    """One file is not Parquet, and another has a damaged row group after a good one."""
    for k in range(4):
        parquet(table.slice(10 * k, 10), f"data/{k}.parquet", group=5)
    Path("data/2.parquet").write_bytes(b"hello")
    raw = bytearray(Path("data/1.parquet").read_bytes())
    with pq.ParquetFile("data/1.parquet") as file:
        start = file.metadata.row_group(1).column(1).file_offset or (
            file.metadata.row_group(1).column(1).data_page_offset
        )
    raw[start : start + 200] = b"\xff" * 200
    Path("data/1.parquet").write_bytes(raw)
    assert run("batch", "encode", "data", "a", "-b", cvae_path).error == (
        f"error: {tmp_path}/data/2.parquet: not a readable Parquet file"
    )
    call = ("batch", "encode", "data", "out", "-b", cvae_path, "--skip-unreadable")
    done = run(*call)
    assert done.code == 3
    listed = [f"unreadable: {tmp_path}/data/{k}.parquet" for k in (1, 2)]
    assert done.err.splitlines()[:2] == listed
    rows = read(Path("out"))
    bad = [i for i, reason in enumerate(rows["error"].to_pylist()) if reason]
    assert rows.num_rows == 30
    assert bad == list(range(10 if len(bad) == 10 else 15, 20))
    assert rows["error"][19].as_py().startswith(f"{tmp_path}/data/1.parquet: damaged: ")
    assert provenance(Path("out/part-000000.parquet"))["unreadable"] == [listed[0][12:]]
    again = run(*call, "--resume", "--json")
    assert json.loads(again.out)["unreadable"] == [line[12:] for line in listed]


def test_resume_survives_a_remount(run: Run, parquet: Write, table: Any, cvae_path: Path) -> None:
    for k in range(3):
        parquet(table.slice(20 * k, 20), f"here/data/{k}.parquet", group=20)
    call = ["batch", "encode", "here/data", "out", "-b", cvae_path, "--part-rows", 20]
    assert run(*call).code == 0
    Path("here").rename("there")
    Path("out/part-000001.parquet").unlink()
    call[2] = "there/data"
    assert "3 parts (2 already finished)" in run(*call, "--resume").err


# URLs


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "nosuch://bucket/x",
            "nosuch://bucket/x: Protocol not known: nosuch. Use a path, or s3://",
        ),
        ("memory://nothing/here", "memory://nothing/here: no Parquet file, expected a file, a"),
    ],
)
def test_an_unknown_url_is_refused(url: str, message: str, run: Run, cvae_path: Path) -> None:
    done = run("batch", "encode", url, "out", "-b", cvae_path)
    assert done.code in (2, 6)
    assert done.error.startswith(f"error: {message}")
    assert not list(Path().iterdir())


def test_an_unknown_url_as_output_is_refused(run: Run, parquet: Write, cvae_path: Path) -> None:
    done = run("batch", "encode", parquet(), "nosuch://bucket/x", "-b", cvae_path)
    assert (done.code, len(list(Path().iterdir()))) == (2, 1)
    assert done.error.startswith("error: nosuch://bucket/x: Protocol not known: nosuch.")


def test_a_file_url_is_a_path_and_memory_is_a_file_system(
    run: Run, parquet: Write, cvae_path: Path, tmp_path: Path
) -> None:
    source = parquet()
    options = ("-b", cvae_path, "--part-rows", 20)
    assert run("batch", "encode", f"file://{source}", f"file://{tmp_path}/a", *options).code == 0
    assert run("batch", "encode", source, "memory://m/b", *options).code == 0
    assert run("batch", "encode", "memory://m/b/*-00000[01].parquet", "c", *options).code == 2
    filesystem, root = storage.locate("memory://m/b")
    names = storage.list_files("memory://m/b")
    assert list(names) == sorted(path.name for path in Path("a").iterdir())
    for name, size in names.items():
        whole = filesystem.open_input_file(f"{root}/{name}").read()
        assert (len(whole), whole) == (size, Path("a", name).read_bytes())
    assert storage.find_parquet("memory://m/b/*-00000[01].parquet") == (
        "memory://m/b", ["part-000000.parquet", "part-000001.parquet"]
    )  # fmt: skip
    assert storage.find_parquet("memory://m/b/part-000001.parquet") == (
        "memory://m/b", ["part-000001.parquet"]
    )  # fmt: skip
    with pytest.raises(NotFound):
        storage.open_parquet("memory://m/b", "none.parquet")
    with pytest.raises(UsageError, match="gopher"):
        storage.locate("gopher://x")
