"""Load `vae-run serve` and a bare FastAPI handler around onnxruntime, in turns, with `hey`.

    python -m tests.performance.serving [--seconds 20] [--soak 600]

Needs the extras serve and dev, and `hey` (a package of Debian). Prints requests per second, the
50th and 99th percentile of the latency, and the growth of the server's memory. --soak then loads
`vae-run serve` alone for that long and prints its memory once a minute.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BODY = '{"label": 3, "seed": 0}'
CLIENTS = (1, 8, 32)
# What an experienced user would write without this project: the same graph and the same PNG.
BARE = """
import asyncio, io, os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnxruntime, uvicorn
from concurrent.futures import ThreadPoolExecutor
from fastapi import FastAPI
from fastapi.responses import Response
from PIL import Image
from pydantic import BaseModel
import vae_runtime as vae
from vae_runtime.bundle.reader import open_bundle
bundle = open_bundle("mnist")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
raw = bundle.read(bundle.manifest.graph("conditional_decoder").file)
session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
pool, app = ThreadPoolExecutor(2), FastAPI()
class Body(BaseModel):
    label: int
    seed: int
def draw(body):
    z = np.random.default_rng(body.seed).standard_normal((1, 16), np.float32)
    (image,) = session.run(None, {"z": z, "label": np.array([body.label])})
    file = io.BytesIO()
    Image.fromarray((image[0, 0] * 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
@app.post("/sample")
async def sample(body: Body):
    raw = await asyncio.get_running_loop().run_in_executor(pool, draw, body)
    return Response(raw, media_type="image/png")
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


@dataclass(frozen=True)
class Load:
    """What `hey` measured: requests per second, percentiles in ms, and failed requests."""

    rate: float
    p50: float
    p99: float
    failed: int


@contextmanager
def serving(command: list[str], port: int) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once it responds."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(200):
                try:
                    post(port)
                    break
                except OSError:
                    time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()


def post(port: int) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/sample", BODY.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        raw: bytes = response.read()
        return raw


def load(port: int, clients: int, seconds: float) -> Load:
    """Send requests from so many clients at once."""
    command = ["hey", "-z", f"{seconds}s", "-c", str(clients), "-m", "POST", "-o", "csv", "-T",
               "application/json", "-d", BODY, f"http://127.0.0.1:{port}/sample"]  # fmt: skip
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    times = np.array([float(row["response-time"]) for row in rows]) * 1e3
    failed = sum(row["status-code"] != "200" for row in rows)
    p50, p99 = np.percentile(times, [50, 99])
    return Load(len(rows) / seconds, float(p50), float(p99), failed)


def memory(pid: int) -> float:
    """Resident memory in MB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def compare(seconds: float, ports: tuple[int, int]) -> list[dict[str, object]]:
    """Load both servers in turns, so that other programs slow both."""
    ours = [sys.executable, "-m", "vae_runtime", "serve", "--port", str(ports[0])]
    bare = [sys.executable, "-c", BARE, str(ports[1])]
    rows: list[dict[str, object]] = []
    with serving(ours, ports[0]) as first, serving(bare, ports[1]) as second:
        for port in ports:
            load(port, 8, 2)  # warm-up
        for clients in CLIENTS:
            for name, port, pid in (("vae-run serve", ports[0], first), ("bare", ports[1], second)):
                before = memory(pid)
                found = load(port, clients, seconds)
                row = {"server": name, "clients": clients, **vars(found)}
                rows.append(row | {"mb": memory(pid), "grown_mb": memory(pid) - before})
                print(json.dumps(rows[-1]), flush=True)
    return rows


def soak(seconds: float, port: int) -> None:
    """Load `vae-run serve` for a long time; print its memory once a minute."""
    with serving([sys.executable, "-m", "vae_runtime", "serve", "--port", str(port)], port) as pid:
        load(port, 16, 20)
        start = memory(pid)
        print(f"after the warm-up: {start:.1f} MB", flush=True)
        for minute in range(1, round(seconds / 60) + 1):
            found = load(port, 16, 60)
            print(f"minute {minute}: {memory(pid) - start:+.1f} MB, {found.rate:.0f} requests/s, "
                  f"p99 {found.p99:.1f} ms, {found.failed} failed", flush=True)  # fmt: skip


def main() -> None:
    """Measure, print, and soak if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--soak", type=float, default=0)
    parser.add_argument("--port", type=int, default=8231)
    chosen = parser.parse_args()
    if shutil.which("hey") is None:
        parser.error("hey is not installed; on Debian: apt install hey")
    compare(chosen.seconds, (chosen.port, chosen.port + 1))
    if chosen.soak:
        soak(chosen.soak, chosen.port)


if __name__ == "__main__":
    main()
