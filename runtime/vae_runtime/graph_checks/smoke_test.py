"""Smoke-test untrusted graphs in a subprocess.

The test finds what byte-level checks cannot: graphs that crash the process, never finish or exhaust
memory. It must start another Python process, so only commands that inspect bundles of unknown
origin run it: `vae-run verify`, and `vae-run info` for a single graph.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ..errors import InputError

_TIMEOUT_S = 60
_MAX_MEMORY = 8 << 30  # bytes of address space, most of which onnxruntime reserves but never uses
_MODULE = "vae_runtime.graph_checks.smoke_test"


def smoke_test(graphs: dict[str, bytes]) -> None:
    """In a subprocess, load each graph and run it on one row of zeros on the CPU.

    Does nothing in a frozen program.

    Args:
        graphs: serialized graphs by name; the names are used in error messages.

    Raises:
        InputError: the subprocess crashed or timed out, or onnxruntime refused a graph.
    """
    if getattr(sys, "frozen", False):  # a frozen program has no interpreter to start
        return
    message = b"".join(len(raw).to_bytes(8, "little") + raw for raw in graphs.values())
    # -P prevents imports from the current folder, which may contain untrusted files.
    command = [sys.executable, "-P", "-m", _MODULE]
    try:
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{next(iter(graphs))}: refused: a smoke test took over {_TIMEOUT_S} seconds"
        ) from error
    # Only the exit status counts, because onnxruntime's messages may quote the graph.
    if done.returncode:
        passed = done.stderr.splitlines().count(b"passed")
        where = list(graphs)[min(passed, len(graphs) - 1)]
        how = f"signal {-done.returncode}" if done.returncode < 0 else "an error or lack of memory"
        raise InputError(f"{where}: refused: a smoke test in a subprocess ended by {how}")


def _run_graphs() -> None:
    """Run the graphs read from standard input; after each, write `passed` to standard error."""
    _limit_memory()
    from ..inference.session import Session

    source = sys.stdin.buffer
    while size := source.read(8):
        raw = source.read(int.from_bytes(size, "little"))
        with Session(raw, device="cpu") as session:
            session.run(list(session.outputs), **_zeros(session))
        print("passed", file=sys.stderr, flush=True)


def _zeros(session: Any) -> dict[str, Any]:
    import numpy as np

    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
    return {
        name: np.zeros([n if isinstance(n, int) else 1 for n in tensor.shape], kinds[tensor.type])
        for name, tensor in session.inputs.items()
    }


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    for which, wanted in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (allowed, hard))


if __name__ == "__main__":
    _run_graphs()
