"""Ctrl-C during a run: onnxruntime is told to stop, and the process ends within a second.

Python's own handler waits until the C code that is running returns. So a thread listens on the
wake-up pipe that the C-level handler writes to, and sets the terminate flag of every run in flight;
if that does not help in time (one huge operator), it ends the process.
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
    """Answer Ctrl-C from now on; for a command line, whose process ends with its command.

    Does nothing outside the main thread, or where it was called before.
    """
    global _listening
    if _listening or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return  # somebody else answers it
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_answer, args=(reader,), daemon=True).start()
    _listening = True


def listening() -> bool:
    """Whether `listen` was called: else runs need not be stoppable."""
    return _listening


@contextlib.contextmanager
def stoppable(ort: Any) -> Iterator[Any]:
    """Yield the options to pass to onnxruntime's `run`, which Ctrl-C then ends.

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


def _answer(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] != signal.SIGINT:
            continue
        for options in list(_runs):
            options.terminate = True
        # The main thread ends the process in its own way, if it gets to run at all.
        time.sleep(GRACE_S)
        os.write(2, b"error: interrupted\n")
        os._exit(EXIT_CODE)
