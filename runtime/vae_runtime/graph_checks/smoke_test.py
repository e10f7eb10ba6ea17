"""Loading and running strange graphs once in a child process, which may die in our place.

What no reader of bytes can tell, this shows: a graph that ends the process, never ends, or fills
the memory. It takes as long as a second start of Python, so only commands that look at bundles from
elsewhere do it: `vae-run verify`, and `vae-run info` of a lone graph.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from ..errors import InputError

_SECONDS = 60
_MEMORY = 8 << 30  # of addresses, most of which onnxruntime only reserves
_MODULE = "vae_runtime.graph_checks.smoke_test"


def smoke_test(graphs: dict[str, bytes]) -> None:
    """Load each graph and run it on one row of zeros, on the CPU of a child process.

    Args:
        graphs: the bytes, by what to call each in an error.

    Raises:
        InputError: the child died, ran for a minute, or onnxruntime refused a graph.
    """
    message = b"".join(len(raw).to_bytes(8, "little") + raw for raw in graphs.values())
    # -P: the current folder, where a stranger's files may lie, is no place to import from.
    command = [sys.executable, "-P", "-m", _MODULE]
    try:
        done = subprocess.run(
            command, input=message, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{next(iter(graphs))}: refused: a trial run took over {_SECONDS} seconds"
        ) from error
    # A graph's own names may stand in onnxruntime's messages, so the exit status alone decides.
    if done.returncode:
        passed = done.stderr.splitlines().count(b"passed")
        where = list(graphs)[min(passed, len(graphs) - 1)]
        how = f"signal {-done.returncode}" if done.returncode < 0 else "an error or lack of memory"
        raise InputError(f"{where}: refused: a trial run of it in another process ended by {how}")


def _child() -> None:
    """Read graphs from standard input; say `passed` on standard error after each."""
    _limit()
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


def _limit() -> None:
    try:
        import resource
    except ImportError:  # only systems of the Unix kind have it
        return
    for which, most in ((resource.RLIMIT_AS, _MEMORY), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(which)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (allowed, hard))


if __name__ == "__main__":
    _child()
