"""Smoke-test an untrusted graph in a subprocess.

This finds what no check of the bytes can: a graph that crashes the process, never ends, or fills
the memory. It takes as long as starting Python again, so only commands that inspect bundles of
unknown origin do it: `vae-run verify`, and `vae-run info` of a lone graph.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ..errors import InputError

_TIMEOUT_S = 60
_MAX_MEMORY = 8 << 30  # of address space, most of which onnxruntime only reserves
_MODULE = "vae_runtime.graph_checks.smoke_test"


def smoke_test(graphs: dict[str, bytes]) -> None:
    """Load each graph and run it on one row of zeros, on the CPU of a subprocess.

    Args:
        graphs: serialized graphs, by their names in error messages.

    Raises:
        InputError: the subprocess crashed or timed out, or onnxruntime refused a graph.
    """
    message = b"".join(len(raw).to_bytes(8, "little") + raw for raw in graphs.values())
    # -P: do not import from the current folder, which may hold untrusted files.
    command = [sys.executable, "-P", "-m", _MODULE]
    try:
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{next(iter(graphs))}: refused: a smoke test took over {_TIMEOUT_S} seconds"
        ) from error
    # Only the exit status decides: onnxruntime's messages may quote names from the graph.
    if done.returncode:
        passed = done.stderr.splitlines().count(b"passed")
        where = list(graphs)[min(passed, len(graphs) - 1)]
        how = f"signal {-done.returncode}" if done.returncode < 0 else "an error or lack of memory"
        raise InputError(f"{where}: refused: a smoke test in a subprocess ended by {how}")


def _run_graphs() -> None:
    """Read graphs from standard input; write `passed` to standard error after each."""
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
    except ImportError:  # not a Unix system
        return
    for which, wanted in ((resource.RLIMIT_AS, _MAX_MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (allowed, hard))


if __name__ == "__main__":
    _run_graphs()
