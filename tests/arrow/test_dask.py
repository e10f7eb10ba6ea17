"""`vae-run batch` on Dask writes the same bytes, and loses nothing when a worker dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")
pytest.importorskip("distributed", reason="distributed is not installed: the extra arrow")

from tests.runtime.conftest import Run
from vae_runtime.arrow import engine
from vae_runtime.errors import LimitError

from .tables import read

pytestmark = [pytest.mark.torch_free, pytest.mark.slow]

Write = Callable[..., Path]
MAIN = "import sys; from vae_runtime.cli import main; sys.argv[0] = 'vae-run'; main()"


def vae_run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", MAIN, *map(str, args)]
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, text=True, check=False, timeout=120, **options
    )


def same_files(a: Path, b: Path) -> bool:
    names = {p.name for p in a.iterdir()}
    return names == {p.name for p in b.iterdir()} and all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in names
    )


def test_two_workers_write_the_same_bytes(run: Run, parquet: Write, cvae_path: Path) -> None:
    source = parquet()
    options = (source, "-b", cvae_path, "--part-rows", 7)
    assert run("batch", "score", *options[:1], "one", *options[1:]).code == 0
    done = vae_run("batch", "score", source, "two", *options[1:], "--workers", 2)
    assert (done.returncode, done.stdout) == (0, "")
    first, *others = done.stderr.splitlines()
    assert re.fullmatch(r"dashboard of the workers: http://127\.0\.0\.1:\d+/status", first)
    assert others == ["wrote 60 rows in 9 parts to two, none refused"]
    assert same_files(Path("one"), Path("two"))


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """The address of a scheduler, and two workers without nannies; the last process is it itself.

    Without nannies, a killed worker stays dead.
    """
    where = folder / "scheduler.json"
    dask = [sys.executable, "-m"]
    common = ["--scheduler-file", str(where), "--host", "127.0.0.1"]
    started = []

    def start(kind: str, *args: str) -> None:
        command = [*dask, f"distributed.cli.dask_{kind}", *common, *args]
        started.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             cwd=folder)
        )  # fmt: skip

    try:
        start("scheduler", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not where.exists() or not where.read_text():
            assert time.monotonic() < end, "no scheduler"
            time.sleep(0.1)
        for _ in range(2):
            start("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard")
        found = re.search(r"tcp://[\d.:]+", where.read_text())
        assert found
        yield found[0], [*started[1:], started[0]]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_worker_loses_nothing(
    run: Run, parquet: Write, vae_path: Path, tmp_path: Path
) -> None:
    """One of two workers dies while it writes one of forty parts."""
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet()).select(["image"])
    parquet(rows.take([i % 60 for i in range(12_000)]), "many.parquet", group=300)
    options = ("-b", vae_path, "--part-rows", 300, "--samples", 10)
    with cluster(tmp_path) as (address, workers):
        command = [sys.executable, "-c", MAIN, "batch", "score", "many.parquet", "out",
                   *map(str, options), "--scheduler", address]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
            end = time.monotonic() + 60
            while len(list(Path("out").glob("part-*"))) < 5:
                assert time.monotonic() < end, "nothing was done"
                assert job.poll() is None
                time.sleep(0.01)
            os.kill(workers[0].pid, signal.SIGKILL)
            done = len(list(Path("out").glob("part-*")))
            assert job.stderr is not None
            error = job.stderr.read()
            assert job.wait(timeout=120) == 0, error
        assert done < 36, "the job was nearly over when the worker died"
        assert error.splitlines()[-1] == "wrote 12,000 rows in 40 parts to out, none refused"
    assert run("batch", "score", "many.parquet", "whole", *options).code == 0
    assert same_files(Path("whole"), Path("out"))
    assert read(Path("out"))["row"].to_pylist() == list(range(12_000))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("killed", ["workers", "scheduler"])
def test_a_dead_cluster_is_one_line(
    killed: str, parquet: Write, vae_path: Path, tmp_path: Path
) -> None:
    """Without workers the job waits, and says so; without a scheduler it ends with code 6."""
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet()).select(["image"])
    parquet(rows.take([i % 60 for i in range(40_000)]), "many.parquet", group=400)
    with cluster(tmp_path) as (address, processes):
        command = [sys.executable, "-c", MAIN, "batch", "score", "many.parquet", "out", "-b",
                   str(vae_path), "--part-rows", "400", "--samples", "5", "--scheduler",
                   address]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as job:
            assert job.stderr is not None
            end = time.monotonic() + 60
            while len(list(tmp_path.glob("out/part-*"))) < 5:
                assert time.monotonic() < end, "nothing was done"
                assert job.poll() is None
                time.sleep(0.01)
            for process in processes[:2] if killed == "workers" else processes[2:]:
                process.send_signal(signal.SIGKILL)
            start = time.monotonic()
            told = (line for line in job.stderr if not re.match(r"dashboard|[\d,]+ of ", line))
            lines = [next(told)]
            seconds = time.monotonic() - start
            if killed == "workers":
                job.kill()
            else:
                lines += told
                assert job.wait(60) == 6
    expected = {
        "workers": "no workers are left; waiting for new ones. Ctrl-C ends the job, and --resume "
        "keeps the finished parts.\n",
        "scheduler": f"error: {address}: the Dask scheduler is gone. Start it again; --resume "
        "keeps the finished parts.\n",
    }
    assert lines == [expected[killed]]
    assert seconds < 30


def test_no_scheduler_answers(parquet: Write, cvae_path: Path, tmp_path: Path) -> None:
    done = vae_run("batch", "encode", parquet(), "out", "-b", cvae_path,
                   "--scheduler", "tcp://127.0.0.1:9", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1] == (
        "error: tcp://127.0.0.1:9: no Dask scheduler answers within 10 s. Start one: dask scheduler"
    )


def test_an_error_of_a_worker_is_one_line(parquet: Write, cvae_path: Path, tmp_path: Path) -> None:
    source = parquet()
    raw = bytearray(source.read_bytes())
    raw[4:2000] = b"\xff" * 1996
    source.write_bytes(raw)
    done = vae_run("batch", "encode", source, "out", "-b", cvae_path, "--workers", 1, cwd=tmp_path)
    assert done.returncode == 3
    dashboard, error = done.stderr.splitlines()
    assert error.startswith(f"error: {source}: damaged: ")
    assert dashboard.startswith("dashboard of the workers: ")


DEADLY = """
import os
from vae_runtime.arrow.engine import local_cluster, on_dask
from vae_runtime.errors import LimitError
with local_cluster(1) as client:
    for address in (client.scheduler.address, *client.nthreads()):
        assert address.startswith("tcp://127.0.0.1:"), address
    assert client.cluster.scheduler.http_server.address == "127.0.0.1"
    try:
        list(on_dask(client, os._exit, [9]))
    except LimitError as error:
        print(error)
"""


def test_a_part_that_kills_every_worker_ends_the_job() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEADLY], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("a part killed several workers, the last at tcp://127.0.0.1:")
    assert done.stdout.endswith(
        "they may be out of memory. Use smaller parts or more memory; --resume keeps the finished "
        "parts.\n"
    )


def test_a_restarting_worker_does_not_hide_the_error_of_the_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[str] = []

    class Cluster:
        def __init__(self, **options: object) -> None: ...

        def close(self) -> None:
            closed.append("cluster")
            raise AssertionError("can only join a started process")

    def client(cluster: Cluster, **options: object) -> contextlib.ExitStack:
        stack = contextlib.ExitStack()
        stack.callback(closed.append, "client")
        return stack

    fake = SimpleNamespace(LocalCluster=Cluster, Client=client)
    monkeypatch.setattr(engine, "_distributed", lambda: fake)
    with pytest.raises(LimitError, match="several workers"), engine.local_cluster(1):
        raise LimitError("a part killed several workers")
    assert closed == ["client", "cluster"]
