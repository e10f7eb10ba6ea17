"""`vae-run batch --resume` keeps finished parts, rewrites damaged ones and refuses other files."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime.arrow import Mapper, job, plan  # noqa: E402
from vae_runtime.errors import InputError  # noqa: E402

from .tables import provenance  # noqa: E402
from .test_job import Write  # noqa: E402

pytestmark = pytest.mark.torch_free

KILLED = """
import os, signal, sys
from pathlib import Path
from vae_runtime.arrow import job
real, done = job.write_part, []
def write_part(*args):
    done.append(real(*args))
    if len(done) == 2:
        Path(".out.part-000002.parquet.0123456789ab.part").write_bytes(b"PAR1 half")
        os.kill(os.getpid(), signal.SIGKILL)
    return done[-1]
job.write_part = write_part
from vae_runtime.cli import main
sys.argv[0] = "vae-run"
main()
"""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that the test writes, in order."""
    numbers: list[int] = []
    real = job.write_part

    def write_part(*args: Any) -> job.FinishedPart:
        numbers.append(args[1].number)
        return real(*args)

    monkeypatch.setattr(job, "write_part", write_part)
    return numbers


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_resume_writes_only_what_is_missing(
    run: Run, parquet: Write, cvae_path: Path, written: list[int]
) -> None:
    source = parquet()
    call = ("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 20)
    assert run(*call).code == 0
    before = files("out")
    done = run(*call)
    assert (done.code, done.error) == (
        3,
        f"error: {Path('out').resolve()}: not empty, it holds part-000000.parquet. "
        "Name another folder, or use --resume.",
    )
    Path("out/part-000000.parquet").unlink()
    Path("out/part-000002.parquet").write_bytes(b"cut off")
    left = Path(".out.part-000001.parquet.0123.part")
    left.write_bytes(b"of a worker that was killed")
    written.clear()
    done = run(*call, "--resume")
    assert done.err == "wrote 60 rows in 3 parts (1 already finished) to out, none refused\n"
    assert written == [0, 2]
    assert files("out") == before
    assert not left.exists()
    assert run(*call, "--resume").code == 0
    assert written == [0, 2]


def test_a_summary_counts_the_parts_of_an_earlier_run(
    run: Run, parquet: Write, cvae_path: Path
) -> None:
    images = [[1] * 64] * 10
    images[3], images[8] = None, [1] * 63  # type: ignore[call-overload]
    source = parquet(pa.table({"image": images, "label": [3] * 10}), group=4)
    call = ("batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 4, "--json")
    assert run(*call).code == 3
    Path("out/part-000002.parquet").unlink()
    done = run(*call, "--resume")
    assert json.loads(done.out) == {
        "out": "out", "parts": 3, "rows": 10, "errors": 2, "skipped": 2,
        "bytes": sum(map(len, files("out").values())), "first_error": "image: missing",
        "unreadable": [],
    }  # fmt: skip


def test_resume_refuses_another_job(run: Run, parquet: Write, cvae_path: Path, table: Any) -> None:
    source = parquet()
    call = ["batch", "score", source, "out", "-b", cvae_path]
    assert run(*call).code == 0
    before = files("out")
    part = Path("out/part-000000.parquet").resolve()
    start, end = f"error: {part}: from another job: its", "Name another folder."
    sha256 = Mapper("score", cvae_path.parent / "cvae_mlp.zip").sha256[:12]
    for options, differs in (
        (["--seed", "1"], "seed is 0, expected 1."),
        (["--row-column", "number"], 'row is "row", expected "number".'),
        (["--limit", "9"], "input_sha256 is "),
        (["--part-rows", "7"], "input_sha256 is "),
        (["-b", cvae_path.parent / "cvae_mlp.zip"], f'expected "{sha256}….'),
    ):
        done = run(*call, *options, "--resume")
        assert done.code == 3
        assert done.error.startswith(start)
        assert differs in done.error
        assert done.error.endswith(end)
    call[1] = "encode"
    assert 'its verb is "score", expected "encode"' in run(*call, "--resume").error
    call[1] = "score"
    parquet(table.slice(0, 59).append_column("x", table["label"].slice(0, 59)))
    assert "its input_sha256 is" in run(*call, "--resume").error
    assert files("out") == before


def test_resume_refuses_files_that_are_not_parts_of_the_job(
    run: Run, parquet: Write, cvae_path: Path, table: Any
) -> None:
    source = parquet()
    call = ["batch", "encode", source, "out", "-b", cvae_path, "--part-rows", 30]
    assert run(*call).code == 0
    first, second = (Path(f"out/part-00000{k}.parquet") for k in range(2))

    def refused(file: Path) -> None:
        done = run(*call, "--resume")
        assert (done.code, done.error) == (
            3, f"error: {file.resolve()}: not a part of this job. Name another folder."
        )  # fmt: skip

    for name in ("x", "part-000002.parquet", "part-0.parquet", "parts.json"):
        shutil.copy(first, Path("out", name))
        refused(Path("out", name))
        Path("out", name).unlink()
    Path("out/_SUCCESS").touch()  # allowed, because readers skip it
    assert run(*call, "--resume").code == 0
    original = second.read_bytes()
    pq.write_table(table, second)  # another program's file
    refused(second)
    shutil.copy(first, second)
    assert "its part is 0, expected 1" in run(*call, "--resume").error
    second.write_bytes(original)
    assert run(*call, "--resume").code == 0


@pytest.mark.parametrize("text", ["{", "[]", '{"options": 3}', "[" * 20_000])
def test_damaged_provenance_is_refused(
    text: str, run: Run, parquet: Write, cvae_path: Path
) -> None:
    call = ["batch", "encode", parquet(), "out", "-b", cvae_path]
    assert run(*call).code == 0
    part = Path("out/part-000000.parquet")
    rows = pq.read_table(part)
    with pq.ParquetWriter(part, rows.schema) as writer:
        writer.write_table(rows)
        writer.add_key_value_metadata({"vae_onnx": text})
    assert run(*call, "--resume").error == (
        f"error: {part.resolve()}: damaged provenance. Delete it to write it again."
    )
    part.unlink()
    assert run(*call, "--resume").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_job_resumes(run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    args = ["batch", "reconstruct", str(source), "out", "-b", str(cvae_path), "--part-rows", "7"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *args], check=False)
    assert killed.returncode == -9
    names = [path.name for path in Path("out").iterdir()]
    assert sorted(names) == ["part-000000.parquet", "part-000001.parquet"]
    assert len(list(Path().glob(".out.*.part"))) == 1
    done = run(*args, "--resume")
    assert "9 parts (2 already finished) to out" in done.err
    args[3] = "whole"
    assert run(*args).code == 0
    assert files("out") == files("whole")
    assert len(files("out")) == 9
    assert not list(Path().glob(".out.*"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_job_killed_at_random_moments_resumes(
    run: Run, parquet: Write, vae_path: Path, table: Any
) -> None:
    """Kill it again and again while it writes; every part with its final name is complete."""
    rows = table.select(["image"]).take([i % 60 for i in range(1200)])
    source = parquet(rows, group=30)
    args = ["batch", "score", str(source), "out", "-b", str(vae_path), "--part-rows", "30"]
    main = "import sys; from vae_runtime.cli import main; sys.argv[0] = 'vae-run'; main()"
    chance, kills, found = random.Random(0), 0, 0
    out = Path("out")
    out.mkdir()
    while found < 40:
        aim = min(40, found + chance.randint(1, 6))
        command = [sys.executable, "-c", main, *args, "--resume"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(list(out.glob("part-*"))) < aim:
                time.sleep(0.0005)
            time.sleep(chance.uniform(0, 0.01))
            process.kill()
        kills += process.returncode == -9
        parts = list(out.glob("part-*"))
        assert len(parts) >= found
        found = len(parts)
        for path in parts:
            assert provenance(path)["rows"] == pq.read_table(path).num_rows == 30
    assert kills > 5
    assert run(*args, "--resume").code == 0
    args[3] = "whole"
    assert run(*args).code == 0
    assert files("out") == files("whole")


def test_a_part_is_on_disk_before_it_gets_its_name(
    cvae_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.fsync, []

    def fsync(handle: int) -> None:
        seen.append((os.fstat(handle).st_ino, part.exists()))
        real(handle)

    part = tmp_path / "out" / "part-000000.parquet"
    monkeypatch.setattr(os, "fsync", fsync)
    job.run(Mapper("sample", cvae_path), plan.plan_rows(3), part.parent)
    assert seen[0] == (part.stat().st_ino, False)


def test_a_part_with_fewer_rows_than_planned_gets_no_name(
    parquet: Write, cvae_path: Path, table: Any, tmp_path: Path
) -> None:
    source = parquet()
    found = plan.plan_files(str(source))
    parquet(table.slice(0, 59))
    with pytest.raises(InputError, match="59 rows read, expected 60: the input has changed"):
        job.run(Mapper("encode", cvae_path), found, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_one_flipped_bit_in_a_finished_part_is_detected(
    run: Run, parquet: Write, cvae_path: Path, written: list[int]
) -> None:
    """Flip bits throughout a file.

    A part with damaged data is always written again. Damage in statistics and page headers may go
    unnoticed if the file still reads as the same table.
    """
    call = ["batch", "encode", parquet(), "out", "-b", cvae_path]
    assert run(*call).code == 0
    part = Path("out/part-000000.parquet")
    raw, rows = part.read_bytes(), pq.read_table(part)
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    outcomes: Counter[str] = Counter()
    for position in range(0, len(raw), 31):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        part.write_bytes(damaged)
        written.clear()
        done = run(*call, "--resume")
        if done.code == 3:
            assert position >= footer, "only the footer identifies the job of a part"
            outcomes["refused"] += 1
        elif written:
            assert part.read_bytes() == raw
            outcomes["written again"] += 1
        else:
            assert pq.read_table(part).equals(rows)
            outcomes["pages" if position < footer else "footer"] += 1
    assert outcomes["written again"] > 60, outcomes
    assert outcomes["pages"] < 8, outcomes
