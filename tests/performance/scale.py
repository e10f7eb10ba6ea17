"""Measure batch work: rows per second against a bare loop, and where a scheduler saturates.

    python tests/performance/scale.py --out docs/scale-results.json    # about ten minutes, 16 GB
    python tests/performance/scale.py --quick                          # to see that it runs
    python tests/performance/scale_report.py docs/scale-results.json   # write the page and the plot

One run encodes 28×28 images in Parquet with the encoder of the reference recipe and with the
embedded convolutional one. It compares a bare onnxruntime loop in one process, Python's
multiprocessing, and `vae-run batch` in this process and on one and two Dask workers. Then it
measures the overhead per task, the efficiency of up to 512 workers that sleep instead of working,
and a job of ten million samples on two workers, from the command line to the finished folder.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vae_runtime.arrow import Mapper, engine, job, plan
from vae_runtime.bundle.reader import open_bundle

GROUP = 10_000
BATCH_SIZE = 256


def main() -> None:
    """Measure, print the figures, and write them with --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000, help="rows for the reference encoder")
    parser.add_argument("--conv-rows", type=int, default=40_000, help="rows for the embedded one")
    parser.add_argument("--samples", type=int, default=10_000_000, help="rows of the long job")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rows, chosen.conv_rows, chosen.repeat = 4 * GROUP, 2 * GROUP, 1
        chosen.samples = 20 * GROUP
    found: dict[str, Any] = {"machine": machine(), "rows": {}, "simulation": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = reference_bundle(folder)
        for bundle, rows in ((reference, chosen.rows), ("mnist", chosen.conv_rows)):
            source = make_rows(folder, rows)
            key = "embedded conv" if bundle == "mnist" else "reference mlp"
            found["rows"][key] = measure(bundle, source, folder, chosen.repeat)
        found["samples"] = sample(reference, chosen.samples, folder)
    found["overhead_ms"] = overhead(200 if chosen.quick else 1000)
    found["simulation"] = list(simulations(quick=chosen.quick))
    if chosen.out:
        chosen.out.write_text(json.dumps(found, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that were used."""
    import distributed
    import onnxruntime

    model = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in model.read_text().splitlines()
             if line.startswith("model name")] if model.exists() else []  # fmt: skip
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.processor(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "distributed": distributed.__version__,
        "pyarrow": pa.__version__,
    }


def reference_bundle(folder: Path) -> Path:
    """Export a VAE of the reference recipe, trained on noise; its weights do not matter here."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, 1, 28, 28), np.uint8)
    np.savez(folder / "noise.npz", images=images)
    programs = Path(sys.executable).parent
    train = [programs / "vae-train", "vae", "--preset", "reference", "--data", folder / "noise.npz",
             "--epochs", "1", "--out", folder / "r.pt", "--quiet"]  # fmt: skip
    export = [programs / "vae-export", "--ckpt", folder / "r.pt", "--out", folder / "reference"]
    for words in (train, export):
        subprocess.run([str(word) for word in words], check=True, capture_output=True)
    return folder / "reference"


def make_rows(folder: Path, rows: int) -> Path:
    """Write a Parquet file of 4,096 random images, repeated."""
    path = folder / f"{rows}.parquet"
    numbers = np.random.default_rng(0).integers(0, 256, (4096, 784), np.uint8)
    schema = pa.schema({"image": pa.list_(pa.uint8(), 784)})
    options: dict[str, Any] = {"use_dictionary": False, "write_page_checksum": True}
    with pq.ParquetWriter(path, schema, **options) as out:
        for start in range(0, rows, GROUP):
            n = min(GROUP, rows - start)
            part = np.resize(numbers, (n, 784))
            column = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), 784)
            out.write_table(pa.table({"image": column}), row_group_size=n)
    return path


# The same work in several ways: read Parquet, encode, write Parquet


def bare_session(bundle: str) -> Any:
    """Load the encoder in a plain onnxruntime session with one thread."""
    import onnxruntime as ort

    opened = open_bundle(bundle)
    spec = opened.manifest.graph("encoder")
    assert spec is not None
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(opened.read(spec.file), options, providers=["CPUExecutionProvider"])


def encode_bare(session: Any, table: pa.Table) -> pa.Table:
    """Encode one table in the shortest possible loop."""
    column = table["image"].combine_chunks()
    pixels = column.flatten().to_numpy().reshape(-1, 1, 28, 28)
    names = [o.name for o in session.get_outputs()]
    labels = {i.name for i in session.get_inputs()} - {"image"}
    found = []
    for start in range(0, len(pixels), BATCH_SIZE):
        image = pixels[start : start + BATCH_SIZE].astype(np.float32) / np.float32(255)
        extra = {name: np.full(len(image), 10, np.int64) for name in labels}
        found.append(session.run(names, {"image": image, **extra}))
    arrays = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    lists = [pa.FixedSizeListArray.from_arrays(pa.array(a.ravel()), a.shape[1]) for a in arrays]
    return pa.table(dict(zip(names, lists, strict=True)))


def bare(bundle: str, source: Path, out: Path) -> None:
    """Encode a file in one process and one thread, without checks."""
    session = bare_session(bundle)
    with pq.ParquetFile(source) as file:
        write_tables((encode_bare(session, table) for table in tables_of(file)), out)


def tables_of(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Read a file in tables of 4,096 rows."""
    return (pa.Table.from_batches([batch]) for batch in file.iter_batches(4096))


def write_tables(tables: Iterator[pa.Table], out: Path) -> None:
    """Write tables of one schema to a file."""
    first = next(tables)
    with pq.ParquetWriter(out, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


_session: Any = None


def _start(bundle: str) -> None:
    global _session
    _session = bare_session(bundle)


def _encode(table: pa.Table) -> pa.Table:
    return encode_bare(_session, table)


def pooled(bundle: str, source: Path, out: Path) -> None:
    """Encode a file with the bare loop in a `multiprocessing` pool of two processes."""
    context = multiprocessing.get_context("spawn")
    with pq.ParquetFile(source) as file, context.Pool(2, _start, (bundle,)) as pool:
        write_tables(pool.imap(_encode, tables_of(file)), out)


def warm(mapper: Mapper) -> None:
    """Load a worker's model, as in a long job. Dask cannot send the model itself back."""
    mapper.model()


def measure(bundle: str | Path, source: Path, folder: Path, repeat: int) -> dict[str, Any]:
    """Measure rows per second of each way. They take turns; the best run of each counts."""
    rows = pq.ParquetFile(source).metadata.num_rows
    mapper = Mapper("encode", bundle, device="cpu")
    found = plan.plan_files(str(source), GROUP)

    def new_path() -> Path:
        return Path(tempfile.mkdtemp(dir=folder)) / "out"

    def batch(threads: int) -> None:
        job.run(mapper, found, new_path(), job.Workers(threads))

    def on(client: Any) -> None:
        out = new_path()
        out.mkdir()
        write = partial(job.write_part, job.Job.of(mapper, found, out))
        for _ in engine.on_dask(client, write, found.parts):
            pass

    ways: dict[str, Callable[[], object]] = {
        "bare loop": lambda: bare(str(bundle), source, new_path()),
        "batch, 1 thread": lambda: batch(1),
        "batch, 2 threads": lambda: batch(2),
        "multiprocessing, 2": lambda: pooled(str(bundle), source, new_path()),
    }
    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        call()
        times.setdefault(name, []).append(time.perf_counter() - start)

    for _ in range(repeat):
        for name, call in ways.items():
            timed(name, call)
        for workers in (1, 2):
            with engine.local_cluster(workers) as client:
                client.run(warm, mapper)
                timed(f"dask, {workers} worker{'s' * (workers > 1)}", partial(on, client))
    rates = {name: rows / min(found) for name, found in times.items()}
    print(f"\n{Path(bundle).name}, {rows:,} rows: rows/s, and as a multiple of the bare loop")
    for name, rate in rates.items():
        print(f"  {name:<20} {rate:>9,.0f} {rate / rates['bare loop']:>6.2f}")
    print(f"  two Dask workers: {rates['dask, 2 workers'] / rates['dask, 1 worker']:.2f}× one")
    return {"n": rows, "rows_per_second": rates}


# A long job, as a user runs it


def sample(bundle: Path, rows: int, folder: Path) -> dict[str, Any]:
    """Sample `rows` images by `vae-run batch` on two Dask workers, then resume the finished job."""
    command = [Path(sys.executable).parent / "vae-run", "batch", "sample", rows, folder / "samples",
               "-b", bundle, "--workers", 2, "--part-rows", 100_000, "--dtype", "uint8",
               "--seed", 0]  # fmt: skip
    seconds = []
    for more in ([], ["--resume"]):
        start = time.perf_counter()
        subprocess.run(list(map(str, [*command, *more])), check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    parts = list((folder / "samples").iterdir())
    found = {
        "date": datetime.now(UTC).date().isoformat(), "rows": rows, "parts": len(parts),
        "bytes": sum(part.stat().st_size for part in parts),
        "seconds": seconds[0], "resumed_seconds": seconds[1],
        "largest_process_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }  # fmt: skip
    whole, again = seconds
    print(f"\n{rows:,} samples on two workers: {whole:.0f} s, {rows / whole:,.0f} rows/s; "
          f"resumed in {again:.0f} s")  # fmt: skip
    return found


# The cost of a scheduler: tasks that do nothing, and workers that sleep instead of working


def doze(seconds: float, _: int) -> None:
    """Sleep, which looks like work to a scheduler."""
    time.sleep(seconds)


def overhead(tasks: int) -> float:
    """Measure the overhead per task in ms, with one worker and tasks that do nothing."""
    with engine.local_cluster(1) as client:
        simulate(client, 20, 0.0)
        ms = 1e3 * simulate(client, tasks, 0.0) / tasks
    print(f"\noverhead: {ms:.2f} ms per task, so at most {1e3 / ms:,.0f} tasks per second")
    return ms


def simulations(*, quick: bool) -> Iterator[dict[str, Any]]:
    """Measure the efficiency of many workers for several times per part, on the engine of jobs."""
    print("\nefficiency by workers and seconds per part (simulated: workers sleep)")
    for workers in (1, 2, 8, 64, 512):
        processes = 1 if workers < 8 else 2
        with engine.local_cluster(processes, workers // processes) as client:
            simulate(client, 2 * workers, 0.0)  # starts every thread
            for seconds in (0.1, 1.0) if quick else (0.03, 0.1, 0.3, 1.0, 3.0):
                rounds = 2 if seconds >= 1 else 4
                actual = simulate(client, workers * rounds, seconds)
                found = {"workers": workers, "part_s": seconds,
                         "efficiency": rounds * seconds / actual,
                         "tasks_per_second": workers * rounds / actual}  # fmt: skip
                print(f"  {workers:>4} workers, {seconds:>5.2f} s: {found['efficiency']:.2f}, "
                      f"{found['tasks_per_second']:,.0f} tasks/s", flush=True)  # fmt: skip
                yield found


def simulate(client: Any, tasks: int, seconds: float) -> float:
    """Run tasks that sleep on the cluster; return the seconds that it took."""
    start = time.perf_counter()
    for _ in engine.on_dask(client, partial(doze, seconds), range(tasks)):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
