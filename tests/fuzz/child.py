"""A subprocess that loads and runs graphs as the runtime does, and that may crash or hang."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from typing import Self

LOADED, RAN, REFUSED, FAILED = b"l", b"r", b"x", b"f"
_MEMORY = 8 << 30


class Child:
    """Tries graphs; a new subprocess replaces one that died."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip

    def try_graph(self, raw: bytes) -> str:
        """Load a graph and run it on several batches; return what happened."""
        assert self.process.stdin is not None
        self.process.stdin.write(len(raw).to_bytes(4, "little") + raw)
        doing = "loading"
        while True:
            answer = self._answer()
            if answer == LOADED:
                doing = "running"
            elif answer in (RAN, REFUSED, FAILED):
                return {RAN: "ran", REFUSED: "refused by onnxruntime", FAILED: "failed"}[answer]
            else:
                self.close()
                self.process = self._start()
                return f"{'died' if answer == b'' else 'hung'} {doing}"

    def _answer(self) -> bytes | None:
        """Return one byte, nothing if the subprocess has ended, or None if it takes too long."""
        assert self.process.stdout is not None
        end = time.monotonic() + self.timeout_s
        while (left := end - time.monotonic()) > 0:
            if select.select([self.process.stdout], [], [], left)[0]:
                return os.read(self.process.stdout.fileno(), 1)
        return None

    def close(self) -> None:
        """End the subprocess."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve() -> None:
    """In the subprocess: answer each graph with `LOADED` and `RAN`, `REFUSED` or `FAILED`."""
    import resource

    import numpy as np

    from vae_runtime.errors import VaeError
    from vae_runtime.inference.session import Session

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.dup(1)
    os.dup2(2, 1)
    edges = np.array([0, 1, -1, 0.5, np.inf, -np.inf, np.nan, 3e38, 1e-45], np.float32)
    source = sys.stdin.buffer
    while size := source.read(4):
        raw = source.read(int.from_bytes(size, "little"))
        try:
            session = Session(raw, device="cpu")
        except VaeError:
            os.write(answers, REFUSED)
            continue
        os.write(answers, LOADED)
        answer = RAN
        for rows in (1, 3, 64):
            shape = [rows, *session.inputs["x"].shape[1:]]
            count = int(np.prod(shape))
            for x in (np.linspace(-1, 1, count, dtype=np.float32), np.resize(edges, count)):
                inputs = {"x": x.reshape(shape), "label": np.arange(rows) % 4}
                used = {name: inputs[name] for name in session.inputs}
                try:
                    found = session.run(["y"], **used)
                    if found[0].shape != tuple(shape):
                        answer = FAILED
                except VaeError:
                    answer = FAILED
        os.write(answers, answer)
        session.close()


if __name__ == "__main__":
    _serve()
