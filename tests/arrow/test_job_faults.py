"""`vae-run batch` with wrong options and damaged input; its memory; `batch import`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")

import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime.arrow import Mapper  # noqa: E402

from .tables import fixed, matrix, read  # noqa: E402
from .test_job import Write  # noqa: E402

pytestmark = pytest.mark.torch_free


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("none.parquet",), 6, "none.parquet: no Parquet file, expected a file, a folder or "
         "a glob"),
        (("text.parquet",), 3, "{}/text.parquet: not a readable Parquet file"),
        (("empty.parquet",), 3, "empty.parquet: no rows"),
        (("in.parquet", "--label", "ten"), 2, "label: unknown class 'ten', expected one of: "
         "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (("in.parquet", "--image-column", "x"), 2, "no column 'x' in the table, expected one. "
         "Its columns: name, image, label, row"),
        (("in.parquet", "--threads", "1", "--workers", "1"), 2,
         "--threads, --workers and --scheduler exclude each other. Use one of them"),
        (("in.parquet", "--variant", "fp16"), 2, "{bundle}: has no variant 'fp16', expected one "
         "of: fp32"),
    ],
)  # fmt: skip
def test_errors_that_affect_all_rows_are_refused_before_any_work(
    args: tuple[str, ...], code: int, message: str, run: Run, parquet: Write,
    cvae_path: Path, tmp_path: Path, table: Any,
) -> None:  # fmt: skip
    parquet()
    parquet(table.slice(0, 0), "empty.parquet")
    Path("text.parquet").write_text("hello")
    done = run("batch", "encode", args[0], "out", "-b", cvae_path, *args[1:])
    expected = message.replace("{bundle}", str(cvae_path)).replace("{}", str(tmp_path))
    assert (done.code, done.error) == (code, f"error: {expected}")
    assert not Path("out").exists()


def test_one_flipped_bit_in_the_input_is_detected(
    run: Run, parquet: Write, cvae_path: Path
) -> None:
    run("batch", "reconstruct", parquet(), "first", "-b", cvae_path)
    part = Path("first/part-000000.parquet")
    raw = bytearray(part.read_bytes())
    raw[len(raw) // 2] ^= 4
    part.write_bytes(raw)
    done = run("batch", "encode", "first", "second", "-b", cvae_path)
    assert done.code == 3
    assert done.error.startswith(f"error: {part.resolve()}: damaged: ")


def test_a_damaged_row_group_leaves_no_part(run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    raw = bytearray(source.read_bytes())
    raw[4:2000] = b"\xff" * 1996
    source.write_bytes(raw)
    done = run("batch", "encode", source, "out", "-b", cvae_path)
    assert done.code == 3
    assert done.error.startswith(f"error: {source}: damaged: ")
    assert not list(Path("out").glob("*part-0*"))


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc to read the peak from")
def test_memory_does_not_grow_with_the_rows(parquet: Write, ae_path: Path, tmp_path: Path) -> None:
    """Three times the rows in one row group: 205 MB more pixels, none of them held in memory.

    The smaller job fills an output row group too, so that both jobs hold one.
    """
    images = np.random.default_rng(0).random((1_200_000, 64), np.float32)
    code = (
        "import sys; from pathlib import Path\n"
        "from vae_runtime.arrow import Mapper, job, plan\n"
        "workers = job.Workers(threads=2)\n"
        "mapper, found = Mapper('encode', sys.argv[1]), plan.plan_files(sys.argv[2])\n"
        "job.run(mapper, found, Path(sys.argv[3]), workers)\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    peaks = []
    for n in (400_000, 1_200_000):
        rows = pa.table({"image": fixed(images[:n])})
        source = parquet(rows, f"{n}.parquet", group=n)
        command = [sys.executable, "-c", code, str(ae_path), str(source), str(tmp_path / str(n))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] - peaks[0] < 50, peaks  # the threads' own memory varies between runs


def test_import_writes_what_encode_reads(run: Run, cvae_path: Path, table: Any) -> None:
    images = matrix(table, "image").reshape(-1, 1, 8, 8)
    np.savez("d.npz", images=images, labels=table["label"].to_numpy())
    assert run("batch", "import", "d.npz", "e.parquet", "--size", "9x9").code == 2
    done = run("batch", "import", "d.npz", "d.parquet")
    assert done == (0, b"", "wrote 60 images of 1×8×8 to d.parquet\n")
    found = pq.read_table("d.parquet")
    assert np.array_equal(matrix(found, "image"), matrix(table, "image"))
    assert found["label"].to_pylist() == [str(k % 10) for k in range(60)]
    assert run("batch", "encode", "d.parquet", "out", "-b", cvae_path).code == 0
    assert np.array_equal(
        matrix(read(Path("out")), "z"), matrix(Mapper("encode", cvae_path)(table), "z")
    )


def test_threads_keep_the_order_and_read_few_items_ahead() -> None:
    from vae_runtime.arrow.engine import threads

    taken: list[int] = []

    def items() -> Any:
        for i in range(50):
            taken.append(i)
            yield i

    def work(i: int) -> int:
        time.sleep(0.002 * (i % 3))
        return i * i

    with threads(3) as run_map:
        for done, result in enumerate(run_map(work, items())):
            assert result == done * done
            assert len(taken) <= done + 2 * 3 + 1
    assert done == 49
