"""Stop running graphs on Ctrl-C, so that the process ends within a second.

A Python signal handler cannot run until C code returns. Therefore a thread reads the
C-level handler's wake-up pipe and sets the terminate flag of every run in progress. If a run does
not stop in time, for example within one huge operator, the thread ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

GRACE_S = 0.7
EXIT_CODE = 130

_runs: set[Any] = set()
_listening = False


def listen() -> None:
    """Handle Ctrl-C from now on; only for command-line programs, whose process may be ended.

    Has no effect outside the main thread, or if another handler is installed.
    """
    global _listening
    if _listening or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_handle, args=(reader,), daemon=True).start()
    _listening = True


def listening() -> bool:
    """Return whether this module handles Ctrl-C, so that runs must be stoppable."""
    return _listening


@contextlib.contextmanager
def stoppable(ort: Any) -> Iterator[Any]:
    """Yield options for onnxruntime's `run` that let Ctrl-C stop that run.

    Raises:
        KeyboardInterrupt: the run was stopped.
    """
    options = ort.RunOptions()
    _runs.add(options)
    try:
        yield options
    except Exception:
        if options.terminate:
            raise KeyboardInterrupt from None
        raise
    finally:
        _runs.discard(options)


def _handle(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] != signal.SIGINT:
            continue
        for options in list(_runs):
            options.terminate = True
        # By then the main thread has ended the process, unless it is still in C code.
        time.sleep(GRACE_S)
        os.write(2, b"error: interrupted\n")
        os._exit(EXIT_CODE)
