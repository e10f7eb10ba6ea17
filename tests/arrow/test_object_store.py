"""Jobs from and to an object store: moto's S3 server on 127.0.0.1, with uploads killed midway."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra arrow")
pytest.importorskip("moto", reason="moto is not installed: the extra dev")
pytest.importorskip("flask_cors", reason="flask-cors is not installed: the extra dev")

import pyarrow.fs as pafs  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from tests.runtime.conftest import Run  # noqa: E402
from vae_runtime.arrow import storage  # noqa: E402

from .test_dask import MAIN, cluster  # noqa: E402
from .test_job import Write  # noqa: E402

pytestmark = [
    pytest.mark.torch_free,
    pytest.mark.skipif(not hasattr(pafs, "S3FileSystem"), reason="pyarrow without S3"),
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch, request: Any) -> Iterator[str]:
    """A new bucket as a URL; the environment leads to the server, as it would to another store."""
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{server}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.name))}"
    put = urllib.request.Request(f"http://{server}/{name}", method="PUT")
    urllib.request.urlopen(put).close()
    storage.locate.cache_clear()
    yield f"s3://{name}"
    storage.locate.cache_clear()


def upload(source: Path, url: str) -> None:
    filesystem, root = storage.locate(url)
    with filesystem.open_output_stream(root) as sink:
        sink.write(source.read_bytes())


def objects(url: str) -> dict[str, bytes]:
    """All objects below a URL."""
    filesystem, root = storage.locate(url)
    infos = filesystem.get_file_info(pafs.FileSelector(root, allow_not_found=True, recursive=True))
    return {
        info.path.removeprefix(f"{root}/"): filesystem.open_input_file(info.path).read()
        for info in infos
        if info.is_file
    }


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_bucket_gives_the_same_bytes_as_a_folder(
    bucket: str, run: Run, parquet: Write, table: Any, cvae_path: Path, tmp_path: Path
) -> None:
    for k in range(3):
        rows = table.slice(20 * k, 20)
        upload(parquet(rows, f"in/year=202{k}/x.parquet"), f"{bucket}/in/year=202{k}/x.parquet")
    options = ("-b", cvae_path, "--part-rows", 20)
    assert run("batch", "encode", "in", "out", *options).code == 0
    call = ("batch", "encode", f"{bucket}/in", f"{bucket}/out", *options)
    done = run(*call)
    assert done.err == f"wrote 60 rows in 3 parts to {bucket}/out, none refused\n"
    assert objects(f"{bucket}/out") == files("out")
    filesystem, root = storage.locate(f"{bucket}/out")
    assert pq.read_table(root, filesystem=filesystem).equals(pq.read_table("out"))
    assert f"{bucket}/out: not empty, it holds part-000000.parquet." in run(*call).error
    filesystem.delete_file(f"{root}/part-000001.parquet")
    assert "(2 already finished)" in run(*call, "--resume").err
    assert objects(f"{bucket}/out") == files("out")
    options = (f"{bucket}/glob", *options)
    assert run("batch", "encode", f"{bucket}/in/year=202[02]/*.parquet", *options).code == 0
    assert len(objects(f"{bucket}/glob")) == 2
    upload(tmp_path / "in/year=2020/x.parquet", f"{bucket}/lake/_delta_log/x.parquet")
    done = run("batch", "encode", f"{bucket}/lake", *options)
    assert f"{bucket[5:]}/lake: a Delta Lake table" in done.error
    assert not list(tmp_path.glob("s3*"))


def test_a_missing_bucket_and_a_missing_object_are_one_line(
    bucket: str, run: Run, parquet: Write, cvae_path: Path
) -> None:
    for source in (f"{bucket}/none", f"{bucket}/none.parquet", "s3://no-such-bucket/x"):
        done = run("batch", "encode", source, "out", "-b", cvae_path)
        assert (done.code, done.error) == (
            6, f"error: {source}: no Parquet file, expected a file, a folder or a glob"
        )  # fmt: skip
    done = run("batch", "encode", parquet(), "s3://no-such-bucket/out", "-b", cvae_path)
    assert done.code == 6
    assert done.error.startswith("error: s3://no-such-bucket/out/part-000000.parquet: ")


def test_import_writes_to_a_bucket(bucket: str, run: Run) -> None:
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    assert run("batch", "import", "digits", "d.parquet").code == 0
    assert run("batch", "import", "digits", f"{bucket}/d.parquet").code == 0
    assert objects(bucket) == {"d.parquet": Path("d.parquet").read_bytes()}


class Killer:
    """A proxy of the server that kills a process when it has sent a number of bytes."""

    def __init__(self, server: str) -> None:
        host, port = server.split(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kill: Callable[[], None] = lambda: None
        self.left = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                for pair in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(1 << 16):
                self.left -= len(data) if counted else 0
                if self.left < 0:
                    self.kill()
                sink.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.slow
def test_an_upload_that_is_killed_midway_leaves_nothing(
    bucket: str, server: str, run: Run, cvae_path: Path
) -> None:
    """The process dies at random points of an upload of megabytes; --resume completes the job."""
    args = ["batch", "sample", "60000", f"{bucket}/out", "-b", str(cvae_path), "--dtype", "float32",
            "--part-rows", "30000", "--label", "3"]  # fmt: skip
    chance, kills = random.Random(1), 0
    killer = Killer(server)
    environment = os.environ | {"AWS_ENDPOINT_URL": killer.address}
    for _ in range(8):
        before = objects(f"{bucket}/out")
        killer.left = chance.randint(1_000_000, 6_000_000)
        command = [sys.executable, "-c", MAIN, *args, "--resume"]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            killer.kill = process.kill
            process.wait(120)
        kills += process.returncode == -9
        found = objects(f"{bucket}/out")
        assert before.items() <= found.items()
        for raw in found.values():
            assert pq.read_table(pa.BufferReader(raw)).num_rows == 30_000  # never half an object
    killer.close()
    assert kills >= 3
    assert run(*args, "--resume").code == 0
    assert run(*args[:3], "whole", *args[4:]).code == 0
    assert objects(f"{bucket}/out") == files("whole")


@pytest.mark.slow
def test_a_cluster_reads_and_writes_a_bucket_though_a_worker_dies(
    bucket: str, run: Run, parquet: Write, table: Any, vae_path: Path, tmp_path: Path
) -> None:
    rows = table.select(["image"]).take([i % 60 for i in range(12_000)])
    upload(parquet(rows, "many.parquet", group=300), f"{bucket}/in/many.parquet")
    options = ("-b", vae_path, "--part-rows", 300, "--samples", 10)
    with cluster(tmp_path) as (address, workers):
        command = [sys.executable, "-c", MAIN, "batch", "score", f"{bucket}/in", f"{bucket}/out",
                   *map(str, options), "--scheduler", address]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as job:
            end = time.monotonic() + 60
            while len(storage.list_files(f"{bucket}/out")) < 5:
                assert time.monotonic() < end
                time.sleep(0.05)
            os.kill(workers[0].pid, signal.SIGKILL)
            assert job.stderr is not None
            error = job.stderr.read()
            assert job.wait(timeout=120) == 0, error
    assert run("batch", "score", "many.parquet", "whole", *options).code == 0
    assert objects(f"{bucket}/out") == files("whole")


PAGE = Path(__file__).parents[2] / "docs" / "bucket.md"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ray", "pyspark", "dask"])
def test_the_page_on_buckets(
    engine: str, bucket: str, run: Run, parquet: Write, table: Any, cvae_path: Path, tmp_path: Path
) -> None:
    """The commands of the page, on three engines, give the same bytes as one process."""
    if engine != "dask":
        pytest.importorskip(engine, reason=f"{engine} is not installed")
    numbered = table.append_column("id", pa.array(range(60)))
    upload(parquet(numbered), f"{bucket}/images/x.parquet")
    shutil.copy(cvae_path, tmp_path / "cvae")
    text = PAGE.read_text().replace("s3://bucket", bucket)
    blocks = re.findall(r"```(?:sh|python)\n(.*?)```", text, re.DOTALL)
    word = {"dask": "--scheduler", "ray": "import ray", "pyspark": "from pyspark"}[engine]
    (block,) = (block for block in blocks if word in block)
    block = block.replace("131_072", "20").replace("131072", "20")
    environment = os.environ | {
        "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    with contextlib.ExitStack() as stack:
        if engine == "dask":
            address, _ = stack.enter_context(cluster(tmp_path))
            words = block.replace("tcp://10.0.0.5:8786", address).split()
            command = [sys.executable, "-c", MAIN, *words[1:]]
        else:
            command = [sys.executable, "-c", block]
        done = subprocess.run(command, env=environment, capture_output=True, text=True,
                              check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    call = ("batch", "encode", f"{bucket}/images", "-b", "cvae", "--columns", "id")
    options = (*call[3:], "--part-rows", 20)
    assert run(*call[:3], "whole", *options).code == 0
    assert objects(f"{bucket}/latents") == files("whole")
    done = run(*call[:3], f"{bucket}/latents", *options, "--resume")
    assert "3 parts (3 already finished)" in done.err
