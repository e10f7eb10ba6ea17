"""Run tasks on threads of this process or on the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from ..errors import FileError, LimitError, VaeError

T = TypeVar("T")
R = TypeVar("R")
_MIN_TASKS = 16  # minimum in flight on a cluster, so that workers that join find work
_TASKS_PER_THREAD = 4  # in flight: one runs, one waits on its worker, two last until the refill
_ITEMS_PER_THREAD = 2  # in flight on local threads, which never wait for a network
_TIMEOUT_S = 10
_PAUSE_S = 0.01  # between two looks for finished tasks
_WATCH_S = 10  # between two looks at the cluster while no task finishes

Say = Callable[[str], object]  # called with a line for the user


@contextlib.contextmanager
def threads(n: int) -> Iterator[Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]]:
    """Yield a `map` that uses n threads, keeps the order, and reads only a few items ahead."""
    with ThreadPoolExecutor(n) as pool:

        def run_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
            running: deque[Future[R]] = deque()
            try:
                for item in items:
                    running.append(pool.submit(function, item))
                    if len(running) > _ITEMS_PER_THREAD * n:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            finally:
                for future in running:
                    future.cancel()

        yield run_map


@contextlib.contextmanager
def local_cluster(workers: int, threads_each: int = 1) -> Iterator[Any]:
    """Start a Dask cluster on this machine, on 127.0.0.1 only, and yield its client.

    Args:
        workers: number of processes; one that dies is restarted.
        threads_each: threads per process.

    Raises:
        FileError: the cluster did not start.
    """
    dask = _distributed()
    with contextlib.ExitStack() as stack:
        try:
            cluster = dask.LocalCluster(
                n_workers=workers,
                threads_per_worker=threads_each,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # None would use port 8787, which may be taken
                # A part's result reports a worker's death, which pages of log would hide.
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_close, cluster)
            client = stack.enter_context(dask.Client(cluster, set_as_default=False))
        except (OSError, RuntimeError) as error:
            raise FileError(f"the workers did not start: {error}. Try fewer --workers.") from error
        yield client


def _close(cluster: Any) -> None:
    """Close a cluster, ignoring one failed assertion.

    Dask asserts that every worker has a process to wait for. A worker that is being restarted has
    no process, and the failed assertion must not replace the job's own error.
    """
    with contextlib.suppress(AssertionError):
        cluster.close()


@contextlib.contextmanager
def remote_cluster(address: str) -> Iterator[Any]:
    """Connect to the Dask scheduler at an address such as `tcp://host:8786`; yield the client.

    Raises:
        FileError: no scheduler answers at this address.
    """
    # A lost connection is reported in one line, which pages of log would hide.
    dask = _distributed()
    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        client = dask.Client(address, timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise FileError(
            f"{address}: no Dask scheduler answers within {_TIMEOUT_S} s. Start one: dask scheduler"
        ) from error
    try:
        yield client
    finally:
        # Closing waits for the scheduler, which may be gone; its error must not replace the job's.
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=1)


def on_dask(
    client: Any, function: Callable[[T], R], items: Iterable[T], say: Say = lambda _: None
) -> Iterator[R]:
    """Run a function on a cluster, one task per item; yield results in order of completion.

    Only a few tasks per thread are submitted at a time. Submitting 20,000 at once took 1.4 times
    as long and used 12 KB of memory per task. Dask moves a dead worker's tasks to other workers.

    Raises:
        LimitError: one task killed several workers.
        FileError: the scheduler is gone.
    """
    dask = _distributed()
    waiting = iter(items)
    running, watch = dask.as_completed(loop=client.loop), _Watch(client, say)
    max_tasks = 0
    try:
        while True:
            # Refill at half: a message with many tasks costs the scheduler as little as one.
            if running.count() <= max_tasks // 2:
                cluster_threads = sum(client.nthreads().values())  # more workers may have joined
                max_tasks = max(_MIN_TASKS, _TASKS_PER_THREAD * cluster_threads)
                tasks = list(islice(waiting, max_tasks - running.count()))
                running.update(client.map(function, tasks, pure=False) if tasks else [])
            if not running.count():
                return
            for future in watch.finished(running):
                yield watch.result(future)
    except dask.KilledWorker as error:
        raise LimitError(
            f"a part killed several workers, the last at {error.last_worker.address}: they may be "
            "out of memory. Use smaller parts or more memory; --resume keeps the finished parts."
        ) from error
    except (CancelledError, OSError, TimeoutError) as error:
        if isinstance(error, VaeError):  # of a part
            raise
        raise _scheduler_gone(client) from error


class _Watch:
    """Reports a cluster that has lost its workers, and one that has lost its scheduler."""

    def __init__(self, client: Any, say: Say) -> None:
        self.client, self.say = client, say
        self.looked, self.warned = time.monotonic(), False

    def look(self) -> None:
        """Look at the cluster; raise `FileError` if the scheduler is gone."""
        if self.client.status != "running":
            raise _scheduler_gone(self.client)
        if time.monotonic() - self.looked < _WATCH_S:
            return
        self.looked = time.monotonic()
        workers = bool(self.client.nthreads())
        if not workers and not self.warned:
            self.say("no workers are left; waiting for new ones. Ctrl-C ends the job, and --resume "
                     "keeps the finished parts.")  # fmt: skip
        self.warned = not workers

    def finished(self, running: Any) -> list[Any]:
        """Wait for finished tasks."""
        while not (found := list(running.next_batch(block=False))):
            time.sleep(_PAUSE_S)
            self.look()
        return found

    def result(self, future: Any) -> Any:
        """Wait for the result of a finished task, which is lost if its worker dies first."""
        while True:
            try:
                return future.result(timeout=_WATCH_S)
            except TimeoutError:
                self.look()


def _scheduler_gone(client: Any) -> FileError:
    return FileError(
        f"{client.scheduler.address}: the Dask scheduler is gone. Start it again; --resume keeps "
        "the finished parts."
    )


def _distributed() -> Any:
    """Import `distributed` only when a cluster is needed, because the import takes a second."""
    import distributed

    return distributed
