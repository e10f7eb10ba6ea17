"""`vae-run batch` in one process: parts, their list, resuming, bad rows, bounds."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vae_runtime as vae

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra dask")

import pyarrow.parquet as pq  # noqa: E402

from vae_runtime.batch import Mapper, job, plan  # noqa: E402

from ..conftest import Run  # noqa: E402
from .tables import fixed, matrix, read  # noqa: E402

pytestmark = pytest.mark.torch_free

Write = Callable[..., Path]


@pytest.mark.parametrize("verb", ["encode", "reconstruct", "score", "sample"])
@pytest.mark.parametrize("part_rows", [1, 20, 1000])
def test_a_job_is_what_one_call_gives(
    verb: str, part_rows: int, run: Run, parquet: Write, cvae_path: Path, table: Any
) -> None:
    source = parquet()
    done = run("batch", verb, source, "out", "-b", cvae_path, "--part-rows", part_rows)
    parts = {1: 9, 20: 3, 1000: 1}[part_rows]
    assert done == (0, b"", f"wrote 60 rows in {parts} parts to out, none refused\n")
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
        "The column error says why.",
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


KILLED = """
import sys, os, signal
from vae_runtime.batch import journal
real = journal.Journal.add
def add(self, done):
    real(self, done)
    if len(self.done) == 2:
        with self._lines.open("ab") as file:
            file.write(b'{"file": "part-0')  # a line that was being written
        os.kill(os.getpid(), signal.SIGKILL)
journal.Journal.add = add
from vae_runtime.cli import main
sys.argv[0] = "vae-run"
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_job_that_was_killed_goes_on(run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    words = ["batch", "reconstruct", str(source), "out", "-b", str(cvae_path), "--part-rows", "7"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert killed.returncode == -9
    assert not Path("out/parts.json").exists()
    done = run(*words, "--resume")
    assert "9 parts to out, 2 of them from an earlier run" in done.err
    words[3] = "whole"
    assert run(*words).code == 0
    for path in Path("whole").iterdir():
        assert path.read_bytes() == Path("out", path.name).read_bytes()
    assert len(list(Path("out").iterdir())) == 10


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("none.parquet",), 6, "none.parquet: no Parquet file. Expected a file, a folder or "
         "a glob"),
        (("text.parquet",), 3, "{}/text.parquet: not a readable Parquet file"),
        (("empty.parquet",), 3, "empty.parquet: no rows"),
        (("in.parquet", "--label", "ten"), 2, "label: unknown class 'ten', expected one of: "
         "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (("in.parquet", "--image-column", "x"), 2, "no column 'x' in the table, or two of them; "
         "it has: name, image, label, row"),
        (("in.parquet", "--threads", "1", "--workers", "1"), 2,
         "--threads, --workers and --scheduler: expected one of them"),
        (("in.parquet", "--variant", "fp16"), 2, "{bundle}: has no variant 'fp16', expected one "
         "of: fp32"),
    ],
)  # fmt: skip
def test_what_no_row_can_be_worked_on_with(
    words: tuple[str, ...], code: int, message: str, run: Run, parquet: Write,
    cvae_path: Path, tmp_path: Path, table: Any,
) -> None:  # fmt: skip
    parquet()
    parquet(table.slice(0, 0), "empty.parquet")
    Path("text.parquet").write_text("hello")
    done = run("batch", "encode", words[0], "out", "-b", cvae_path, *words[1:])
    expected = message.replace("{bundle}", str(cvae_path)).replace("{}", str(tmp_path))
    assert (done.code, done.error) == (code, f"error: {expected}")
    assert not Path("out").exists()


def test_one_flipped_bit_in_a_part_is_found(run: Run, parquet: Write, cvae_path: Path) -> None:
    run("batch", "reconstruct", parquet(), "first", "-b", cvae_path)
    part = Path("first/part-000000.parquet")
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 4
    part.write_bytes(raw)
    done = run("batch", "encode", "first", "second", "-b", cvae_path)
    assert done.code == 3
    assert done.error.startswith(f"error: {part.resolve()}: damaged: ")


def test_a_damaged_row_group(run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    raw = bytearray(source.read_bytes())
    raw[4:2000] = b"\xff" * 1996
    source.write_bytes(raw)
    done = run("batch", "encode", source, "out", "-b", cvae_path)
    assert done.code == 3
    assert done.error.startswith(f"error: {source}: damaged: ")
    assert not list(Path("out").glob("*part-0*"))


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc to read the peak from")
def test_memory_stays_while_rows_grow(parquet: Write, ae_path: Path, tmp_path: Path) -> None:
    """Four times the rows in one row group: 77 MB more of pixels, none of them in memory."""
    images = np.random.default_rng(0).random((400_000, 64), np.float32)
    code = (
        "import sys; from pathlib import Path\n"
        "from vae_runtime.batch import Mapper, job, plan\n"
        "where = job.Where(threads=2)\n"
        "mapper, found = Mapper('encode', sys.argv[1]), plan.plan_files(sys.argv[2])\n"
        "job.run(mapper, found, Path(sys.argv[3]), where)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    peaks = []
    for n in (100_000, 400_000):
        rows = pa.table({"image": fixed(images[:n])})
        source = parquet(rows, f"{n}.parquet", group=n)
        words = [sys.executable, "-c", code, str(ae_path), str(source), str(tmp_path / str(n))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 45, peaks  # a row group that is being written


def test_import_writes_what_encode_reads(run: Run, cvae_path: Path, table: Any) -> None:
    images = matrix(table, "image").reshape(-1, 1, 8, 8)
    np.savez("d.npz", images=images, labels=table["label"].to_numpy())
    done = run("batch", "import", "d.npz", "d.parquet")
    assert done == (0, b"", "wrote 60 images of 1×8×8 to d.parquet\n")
    found = pq.read_table("d.parquet")
    assert np.array_equal(matrix(found, "image"), matrix(table, "image"))
    assert found["label"].to_pylist() == [str(k % 10) for k in range(60)]
    assert run("batch", "encode", "d.parquet", "out", "-b", cvae_path).code == 0
    assert np.array_equal(
        matrix(read(Path("out")), "z"), matrix(Mapper("encode", cvae_path)(table), "z")
    )


def test_parts_of_a_count() -> None:
    found = plan.plan_rows(10, 4)
    assert [(p.number, p.start, p.rows, p.name) for p in found.parts] == [
        (0, 0, 4, "part-000000.parquet"),
        (1, 4, 4, "part-000001.parquet"),
        (2, 8, 2, "part-000002.parquet"),
    ]
    assert found.rows == 10


def test_threads_keep_the_order_and_hold_few() -> None:
    from vae_runtime.batch.engine import threads

    taken: list[int] = []

    def items() -> Any:
        for i in range(50):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    with threads(3) as over:
        for done, result in enumerate(over(work, items())):
            assert result == done * done
            assert len(taken) <= done + 2 * 3 + 1
    assert done == 49
